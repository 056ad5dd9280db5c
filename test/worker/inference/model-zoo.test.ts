import assert from "node:assert/strict";
import { findCard, listModels } from "../../../worker/inference/model-zoo.ts";

describe("model zoo", () => {
  it("has the published models, with mmpretrain's figures", () => {
    const simclr = findCard("simclr_resnet50_16xb256-coslr-800e_in1k");
    assert.deepEqual(
      [simclr?.task, simclr?.parameters, simclr?.flops, simclr?.top1],
      ["null", 27_968_832, 4_109_364_224, undefined],
    );
    const linear = findCard("resnet50_simclr-800e-pre_8xb512-linear-coslr-90e_in1k");
    assert.deepEqual(
      [linear?.task, linear?.parameters, linear?.flops, linear?.top1],
      ["Image Classification", 25_557_032, 4_109_464_576, 69.2],
    );
    assert.match(linear?.weights ?? "", /_20220825-b80ae1e5\.pth$/);
  });

  it("lists names by pattern, sorted, in any case", () => {
    const all = listModels();
    assert.deepEqual(all, [...all].sort());
    assert.deepEqual(listModels("SimCLR_resnet50"), [
      "simclr_resnet50_16xb256-coslr-200e_in1k",
      "simclr_resnet50_16xb256-coslr-800e_in1k",
      "simclr_resnet50_8xb32-coslr-200e_in1k",
    ]);
    assert.deepEqual(listModels("*8?0e-pre"), [
      "resnet50_simclr-800e-pre_8xb512-linear-coslr-90e_in1k",
    ]);
    assert.deepEqual(listModels("demo.linear"), []);
  });

  it("leaves out patterns and other tasks", () => {
    assert.deepEqual(
      listModels("*", { task: "Image Classification", excludePatterns: ["demo", "*800e*"] }),
      [
        "resnet18_2xb256-linear-coslr-100e_cifar10",
        "resnet50_simclr-200e-pre_8xb512-linear-coslr-90e_in1k",
      ],
    );
  });
});
