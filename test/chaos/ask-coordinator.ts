/** Questions and orders to whichever coordinator of a cluster takes them. */

import { OperatorClient } from "../../coordinator/cli/operator-client.ts";
import { ERROR_SPECS, FleetError } from "../../proto/errors.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { until } from "../support/until.ts";
import type { ChaosCluster, Coordinator } from "./chaos-cluster.ts";

/** Longer than any coordinator is away. */
const ORDER_TIMEOUT_MS = 60_000;

/** Asks all coordinators at once. @returns the first answer; undefined while none has one */
export async function ask<Answer>(
  cluster: ChaosCluster,
  question: (client: OperatorClient, coordinator: Coordinator) => Promise<Answer>,
): Promise<Answer | undefined> {
  const asked = cluster.coordinators.map((coordinator) =>
    askOne(coordinator.address, (client) => question(client, coordinator)),
  );
  return await Promise.any(asked).catch(() => undefined);
}

/** Gives an order, again and again until one takes it; so it may be carried out twice. */
export async function order<Answer extends object>(
  cluster: ChaosCluster,
  give: (client: OperatorClient) => Promise<Answer>,
): Promise<Answer> {
  return await until(
    "a coordinator to take an order",
    async () => {
      cluster.assertOpen();
      for (const { address } of cluster.coordinators) {
        try {
          return await askOne(address, give);
        } catch (thrown) {
          const error = FleetError.from(thrown);
          if (ERROR_SPECS[error.code].remedy !== "retry") throw error;
        }
      }
      return undefined;
    },
    ORDER_TIMEOUT_MS,
  );
}

async function askOne<Answer>(
  address: string,
  question: (client: OperatorClient) => Promise<Answer>,
): Promise<Answer> {
  const client = new OperatorClient(address, PLAINTEXT);
  try {
    return await question(client);
  } finally {
    client.close();
  }
}
