/** The coordinator's time, for ages that grow while nothing else happens. */

import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

export const NowContext = createContext(0);

/** Unix time in ms by the coordinator's clock, a second old at most. */
export function useNow(): number {
  return useContext(NowContext);
}

/** For the one who provides it. */
export function useTicking(aheadMs: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return Math.max(now, Date.now()) + aheadMs;
}
