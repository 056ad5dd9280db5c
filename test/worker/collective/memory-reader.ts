/** Opens the memory of a ticket, and tells twice what is there. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { findMemoryHost, type MemoryTicket } from "../../../worker/collective/shared-memory.ts";

const [ticket] = (await once(process, "message")) as [MemoryTicket];
const memory = findMemoryHost()?.open(ticket);
assert.ok(memory);
const tell = () => process.send?.([memory.data.length, ...memory.data.subarray(0, 3)]);
process.once("message", () => {
  tell();
  memory.close();
  process.disconnect();
});
tell();
