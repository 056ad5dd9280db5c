import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { figureOf, readScalars } from "../../../proto/charts/read-scalars.ts";

describe("the scalars of a stage", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "simclr-scalars-"));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const read = async (text: string) => {
    const file = path.join(folder, "scalars.jsonl");
    await writeFile(file, text);
    return readScalars(file);
  };

  it("are its lines, of steps and of validations, and the numbers in them", async () => {
    const { rows, damaged } = await read(
      '{"stage":"linear","step":1,"loss":4.5,"lr":0.1}\n' +
        '{"stage":"linear","step":1,"knn/top1":50}\n',
    );
    assert.deepEqual(rows, [
      { stage: "linear", step: 1, loss: 4.5, lr: 0.1 },
      { stage: "linear", step: 1, "knn/top1": 50 },
    ]);
    assert.deepEqual([figureOf(rows[0]!, "loss"), figureOf(rows[1]!, "loss")], [4.5, undefined]);
    assert.equal(figureOf(rows[0]!, "stage"), undefined);
    assert.deepEqual(damaged, []);
  });

  it("come without the lines that are damaged, whose numbers are told", async () => {
    const good = '{"step":1,"loss":4.5}\n';
    const { rows, damaged } = await read(`${good}\n{"loss":3}\n17\n${good}{"step":2,"lo`);
    assert.equal(rows.length, 2);
    assert.deepEqual(damaged, [3, 4, 6]);
  });

  it("need a file with a step in it", async () => {
    await assert.rejects(read("\n"), { code: "DATA_INVALID", message: /is empty/ });
    await assert.rejects(read("a\n"), { code: "DATA_INVALID", message: /no line with a step/ });
    const absent = path.join(folder, "absent.jsonl");
    await assert.rejects(readScalars(absent), { code: "NOT_FOUND", message: /no such file/ });
  });
});
