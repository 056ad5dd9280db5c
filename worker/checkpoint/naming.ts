import { FleetError } from "../../proto/errors.ts";

/** Runs `action` and puts the file or folder in front of what it finds wrong. */
export function naming<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (thrown) {
    const { code, message, detail } = FleetError.from(thrown);
    const isNamed = message.startsWith(path);
    throw new FleetError(code, isNamed ? message : `${path}: ${message}`, detail, thrown);
  }
}
