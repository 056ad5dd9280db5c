import assert from "node:assert/strict";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { OperatorClient } from "../../coordinator/cli/operator-client.ts";
import { OperatorServiceService } from "../../proto/gen/coordinator.ts";
import { findRecipe } from "../../proto/recipes/registry.ts";
import { PLAINTEXT } from "../../proto/transport.ts";
import { useRig } from "./coordinator-rig.ts";

const REQUEST = { recipeJson: JSON.stringify(findRecipe("demo")), priority: 0, name: "" };

describe("a request to submit", function () {
  this.timeout(20_000);
  const rig = useRig();
  const queued = async (): Promise<readonly string[]> =>
    (await rig().operator.list()).map(({ experimentId }) => experimentId);

  it("adds one experiment, however often it is made", async () => {
    const submit = (requestId: string) => rig().operator.submit(REQUEST, requestId);
    const ids = await Promise.all([submit("r1"), submit("r1")]);
    ids.push(await submit("r1"));
    await rig().restart();
    ids.push(await submit("r1"));
    assert.deepEqual(ids, Array(4).fill(ids[0]));
    assert.deepEqual(await queued(), [ids[0]]);
    const others = [await submit("r2"), await submit(""), await submit("")];
    assert.deepEqual(await queued(), [ids[0], ...others]);
  });

  it("may be made again when it was refused", async () => {
    const invalid = rig().operator.submit({ ...REQUEST, recipeJson: "{}" }, "r1");
    await assert.rejects(invalid, { code: "RECIPE_INVALID" });
    const id = await rig().operator.submit(REQUEST, "r1");
    assert.deepEqual(await queued(), [id]);
    const long = rig().operator.submit(REQUEST, "r".repeat(101));
    await assert.rejects(long, { code: "USAGE", message: /request_id/ });
  });

  it("is made again where its answer was lost", async () => {
    const told: string[] = [];
    const dying = new Server();
    dying.addService(OperatorServiceService, {
      submit: async ({ request }: { request: typeof REQUEST & { requestId: string } }) => {
        told.push(await rig().operator.submit(request, request.requestId));
        dying.forceShutdown();
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      const credentials = ServerCredentials.createInsecure();
      dying.bindAsync("127.0.0.1:0", credentials, (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    const client = new OperatorClient(`127.0.0.1:${port},${rig().address}`, PLAINTEXT);
    const id = await client.submit(REQUEST);
    client.close();
    assert.deepEqual(told, [id]);
    assert.deepEqual(await queued(), [id]);
  });
});
