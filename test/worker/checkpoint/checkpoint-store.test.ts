import assert from "node:assert/strict";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  type Checkpoint,
  findCheckpoint,
  newestCheckpointStep,
  readCheckpoint,
  saveCheckpoint,
} from "../../../worker/checkpoint/checkpoint-store.ts";
import { decodeSafetensors } from "../../../worker/checkpoint/safetensors.ts";

describe("checkpoint store", () => {
  let store: string;
  beforeEach(() => {
    store = mkdtempSync(path.join(os.tmpdir(), "checkpoints-"));
  });
  afterEach(() => rmSync(store, { recursive: true, force: true }));

  const checkpointAt = (step: number) => ({
    manifest: {
      format: "simclr-fleet/checkpoint/1" as const,
      experimentId: "e1",
      recipe: "demo",
      stage: "pretrain" as const,
      step,
      epoch: step / 4,
      seed: 7,
      worldSize: 2,
      generation: 3,
      batchesTracked: step,
      scalars: { loss_first: 5.5 },
      createdAt: "2026-01-02T03:04:05.000Z",
    },
    model: new Map([
      ["backbone.bn1.weight", { shape: [2], data: Float32Array.of(1 / 3, -0) }],
      ["backbone.bn1.running_var", { shape: [2], data: Float32Array.of(step, 1e-30) }],
    ]),
    optimizer: new Map([["backbone.bn1.weight", { shape: [2], data: Float32Array.of(3, 4) }]]),
  });
  const ignoreDamage = (): void => assert.fail("nothing is damaged here");

  it("gives back every bit of what was saved", () => {
    const saved = checkpointAt(12);
    const { folder } = saveCheckpoint(store, saved, 3);
    const read: Checkpoint = readCheckpoint(folder);

    assert.deepEqual(read.model, saved.model);
    assert.deepEqual(read.optimizer, saved.optimizer);
    const { files, ...manifest } = read.manifest;
    assert.deepEqual(manifest, saved.manifest);
    assert.equal(Object.keys(files).length, 2);
    assert.equal(read.probe, undefined);
  });

  it("has the online probe in a file of its own, which must be whole as well", () => {
    const probe = new Map([["fc.bias", { shape: [2], data: Float32Array.of(5, 1e-30) }]]);
    const { folder } = saveCheckpoint(store, { ...checkpointAt(12), probe }, 3);
    assert.deepEqual(readCheckpoint(folder).probe, probe);
    assert.deepEqual(readCheckpoint(folder).model, checkpointAt(12).model);
    truncateSync(path.join(folder, "probe.safetensors"), 9);
    const damaged: string[] = [];
    assert.equal(
      findCheckpoint(store, (at) => damaged.push(at)),
      undefined,
    );
    assert.deepEqual(damaged, [folder]);
  });

  it("stores num_batches_tracked beside each running variance, as PyTorch does", () => {
    const { folder } = saveCheckpoint(store, checkpointAt(12), 3);
    const file = decodeSafetensors(readFileSync(path.join(folder, "model.safetensors")));
    assert.deepEqual(file.tensors.get("backbone.bn1.num_batches_tracked"), {
      dtype: "I64",
      shape: [],
      data: BigInt64Array.of(12n),
    });
  });

  it("keeps the newest ones and nothing else", () => {
    for (const step of [1, 2, 10, 11]) saveCheckpoint(store, checkpointAt(step), 2);
    const kept = [".generation-3", "step-000000010", "step-000000011"];
    assert.deepEqual(readdirSync(store).sort(), kept);
  });

  it("finds the newest one", () => {
    for (const step of [9, 10]) saveCheckpoint(store, checkpointAt(step), 3);
    assert.equal(findCheckpoint(store, ignoreDamage)?.manifest.step, 10);
  });

  it("finds none in a folder that does not exist", () => {
    assert.equal(findCheckpoint(path.join(store, "absent"), ignoreDamage), undefined);
  });

  describe("when the newest one is damaged", () => {
    const damages: Record<string, (folder: string) => void> = {
      "is truncated": (folder) => truncateSync(path.join(folder, "model.safetensors"), 40),
      "has a flipped bit": (folder) => {
        const file = path.join(folder, "optimizer.safetensors");
        const bytes = readFileSync(file);
        bytes[bytes.length - 1]! ^= 1;
        writeFileSync(file, bytes);
      },
      "lacks its manifest": (folder) => rmSync(path.join(folder, "manifest.json")),
      "has a manifest that is not JSON": (folder) =>
        writeFileSync(path.join(folder, "manifest.json"), "{"),
      "lacks a file": (folder) => rmSync(path.join(folder, "model.safetensors")),
    };
    for (const [title, damage] of Object.entries(damages)) {
      it(`passes over one that ${title}, names it, and takes the one before`, () => {
        saveCheckpoint(store, checkpointAt(10), 3);
        const { folder: newest } = saveCheckpoint(store, checkpointAt(20), 3);
        damage(newest);

        const damaged: string[] = [];
        const found = findCheckpoint(store, (folder) => damaged.push(folder));
        assert.equal(found?.manifest.step, 10);
        assert.deepEqual(damaged, [newest]);
        assert.throws(() => readCheckpoint(newest), { code: "CHECKPOINT_INVALID" });
      });
    }
  });

  it("ignores what a killed process left half-written", () => {
    saveCheckpoint(store, checkpointAt(10), 3);
    writeFileSync(path.join(store, ".writing-step-000000020-1"), "");
    assert.equal(findCheckpoint(store, ignoreDamage)?.manifest.step, 10);
  });

  it("tells the newest step without reading what is in it", () => {
    assert.equal(newestCheckpointStep(path.join(store, "absent")), 0);
    const { folder: older } = saveCheckpoint(store, checkpointAt(10), 3);
    const { folder: newer } = saveCheckpoint(store, checkpointAt(20), 3);
    assert.equal(newestCheckpointStep(store), 20);
    truncateSync(path.join(newer, "model.safetensors"), 40);
    assert.equal(newestCheckpointStep(store), 10);
    rmSync(path.join(older, "manifest.json"));
    assert.equal(newestCheckpointStep(store), 0);
  });

  it("replaces one of the same step, as a run that is repeated writes it", () => {
    saveCheckpoint(store, checkpointAt(10), 3);
    const again = { ...checkpointAt(10), optimizer: new Map() };
    const { folder } = saveCheckpoint(store, again, 3);
    assert.equal(readCheckpoint(folder).optimizer.size, 0);
    assert.deepEqual(readdirSync(store).sort(), [".generation-3", "step-000000010"]);
  });

  it("takes up a store from before generations were written down", () => {
    const { folder } = saveCheckpoint(store, checkpointAt(10), 3);
    rmSync(path.join(store, ".generation-3"));
    const manifest = path.join(folder, "manifest.json");
    const { generation, ...old } = JSON.parse(readFileSync(manifest, "utf8"));
    assert.equal(generation, 3);
    writeFileSync(manifest, JSON.stringify(old));
    assert.equal(findCheckpoint(store, ignoreDamage)?.manifest.generation, undefined);
    assert.equal(
      saveCheckpoint(store, checkpointAt(20), 3).folder,
      path.join(store, "step-000000020"),
    );
  });

  it("names the newest one to whoever takes the folder around it for one", () => {
    saveCheckpoint(store, checkpointAt(10), 3);
    assert.throws(() => readCheckpoint(store), {
      code: "CHECKPOINT_INVALID",
      message: /has no manifest\.json; the newest checkpoint in it is step-000000010$/,
    });
  });

  it("says which folder cannot be written", () => {
    const file = path.join(store, "file");
    writeFileSync(file, "");
    assert.throws(() => saveCheckpoint(file, checkpointAt(1), 3), {
      code: "STORAGE_FAILED",
      message: new RegExp(`^checkpoints cannot be written to ${file}: .*EEXIST`),
    });
  });
});
