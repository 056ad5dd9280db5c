import assert from "node:assert/strict";
import fc from "fast-check";
import { FleetError } from "../../../../proto/errors.ts";
import { PickleInput } from "../../../../worker/checkpoint/torch/pickle-input.ts";
import { unpickle } from "../../../../worker/checkpoint/torch/unpickle.ts";
import { pickleIn, pickleOf, text } from "./saved-files.ts";

const stub = (of: string) => ({ type: "stub", of });

const read = (bytes: Uint8Array) => unpickle(PickleInput.of(bytes)).value;

describe("unpickle", () => {
  for (const [what, pickle, expected] of [
    ["None", ["N."], undefined],
    ["booleans", ["\x88\x89\x86."], [true, false]],
    ["small integers", ["K\xffM\x01\x02J\xff\xff\xff\xff\x87."], [255, 513, -1]],
    ["long integers", ["\x8a\x05\x00\x00\x00\x00\x01\x8a\x01\xff\x86."], [2 ** 32, -1]],
    ["an integer beyond 2^53", ["\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."], 2n ** 63n - 1n],
    ["floats", ["G\x40\x04\x00\x00\x00\x00\x00\x00."], 2.5],
    ["texts of all kinds", ["\x8c\x01a", text("é"), "U\x01b\x87."], ["a", "\ufffd", "b"]],
    ["bytes", ["C\x02\x00\xff."], Buffer.of(0, 255)],
    ["lists", ["](K\x01K\x02eK\x03a."], [1, 2, 3]],
    [
      "dicts",
      ["}", text("k"), "K\x01s(", text("l"), "K\x02u."],
      new Map([
        ["k", 1],
        ["l", 2],
      ]),
    ],
    ["what was memoised", ["K\x07q\x05]h\x05ah\x05a."], [7, 7]],
    [
      "frames and the memo of protocol 4",
      ["\x80\x04\x95\0\0\0\0\0\0\0\0K\x07\x94h\0\x86."],
      [7, 7],
    ],
    ["an OrderedDict with attributes", ["ccollections\nOrderedDict\n)R}b."], new Map()],
    [
      "an OrderedDict of Python 2",
      ["ccollections\nOrderedDict\n](]K\x01aK\x02a]K\x03aK\x04ae\x85R."],
      new Map([
        [1, 2],
        [3, 4],
      ]),
    ],
    ["a torch.Size", ["ctorch\nSize\n(K\x02K\x03t\x85R."], [2, 3]],
    ["a name that is no name", ["cm\n\x1b[2Jf\n)R."], stub("m.?[2Jf")],
    ["an unknown function's result", ["cnumpy\nscalar\n)R."], stub("numpy.scalar")],
    ["an object with state", ["cmine\nThing\n)\x81}(", text("a"), "K\x01ub."], stub("mine.Thing")],
    ["an object with items", ["cmine\nList\n)\x81(K\x01K\x02e."], stub("mine.List")],
    ["an object by name and keywords", [text("m"), text("C"), "\x93)}\x92."], stub("m.C")],
    ["the result of calling a result", ["cm\nf\n)R)R."], stub("the result of a call")],
    ["a set", ["\x8f(K\x01\x90."], stub("builtins.set")],
  ] as const) {
    it(`reads ${what}`, () => assert.deepEqual(read(pickleOf(...pickle)), expected));
  }

  it("passes over texts and integers that are too long to be anything of ours", () => {
    const long = pickleOf("(", text("x".repeat(2 ** 20 + 1)), "\x8a\xff", "\x01".repeat(255), "t.");
    assert.deepEqual(read(long), [stub("builtins.str"), stub("builtins.int")]);
  });

  for (const [what, pickle, name] of [
    ["a shell command", ["cposix\nsystem\n(", text("touch marker"), "tR."], "posix.system"],
    ["one deep inside of a dict", ["}", text("a"), "](cos\nsystem\n(tRes."], "os.system"],
    [
      "one that is named by texts",
      [text("subprocess"), text("Popen"), "\x93."],
      "subprocess.Popen",
    ],
    [
      "one whose texts are memoised",
      [text("os"), "q\0", text("exec"), "q\x01h\0h\x01\x93."],
      "os.exec",
    ],
    ["eval", ["cbuiltins\neval\n(", text("1"), "tR."], "builtins.eval"],
    ["exec of Python 2", ["c__builtin__\nexec\n."], "__builtin__.exec"],
    ["an import", ["cbuiltins\n__import__\n."], "builtins.__import__"],
    ["a walk to an import", ["cbuiltins\nlist.__import__\n."], "builtins.list.__import__"],
    ["a walk to a dangerous module", ["ctorch\n_utils.os.system\n."], "torch._utils.os.system"],
    ["an attribute of anything", ["cbuiltins\ngetattr\n."], "builtins.getattr"],
    ["a module below a dangerous one", ["cimportlib.util\nfind\n."], "importlib.util.find"],
    ["what is thrown away again", ["cos\nsystem\n0N."], "os.system"],
    ["a pickle in a pickle", ["c_pickle\nloads\n(C\x02N.tR."], "_pickle.loads"],
    ["another file of torch", ["ctorch\nload\n."], "torch.load"],
    [
      "additions to the extension registry",
      ["ccopyreg\nadd_extension\n."],
      "copyreg.add_extension",
    ],
  ] as const) {
    it(`refuses ${what}, and names it`, () => {
      assert.throws(() => read(pickleOf(...pickle)), {
        code: "CHECKPOINT_INVALID",
        message: new RegExp(`names ${name.replaceAll(".", "\\.")}, which no checkpoint needs`),
        detail: { global: name },
      });
    });
  }

  const absurd = "\xff".repeat(7);
  for (const [what, pickle, reason] of [
    ["nothing", [], /cut off or damaged at byte 0/],
    ["no end", ["N"], /cut off/],
    ["an end without a value", ["."], /empty stack/],
    ["a tuple of more than there is", ["K\x01\x86."], /empty stack/],
    ["a tuple without a mark", ["t."], /no mark/],
    ["an item that was never stored", ["h\x01."], /recalls 1/],
    ["a key without a value", ["}(K\x01u."], /key without a value/],
    ["a class that is named by a number", ["K\x01K\x02\x93."], /no text/],
    ["a name without an end", [`cmodule\n${"x".repeat(5000)}`], /cut off/],
    ["a text longer than the pickle", ["X\xff\xff\xff\x7fabc."], /cut off/],
    ["a text of 2^63 bytes", [`\x8d${absurd}\x7fabc.`], /cut off/],
    ["bytes of 2^64", [`\x8e${absurd}\xffabc.`], /cut off/],
    ["an integer of 2 GiB", ["\x8b\xff\xff\xff\x7f."], /cut off/],
    ["an opcode that nobody writes", ["\x00."], /opcode 0x00/],
    ["code of protocol 0", ["I1\n."], /opcode 0x49/],
    ["the extension registry", ["\x82\x01."], /extension registry/],
    ["a protocol of the future", ["\x80\x06N."], /protocol 6/],
  ] as const) {
    it(`refuses ${what}`, () => {
      const pickle_ = pickleOf(...pickle);
      assert.throws(() => read(pickle_), { code: "CHECKPOINT_INVALID", message: reason });
    });
  }

  it("gives up on a program that has no end in sight", function () {
    this.timeout(20_000);
    const program = Buffer.alloc(5_000_000, "]0");
    assert.throws(() => read(program), { code: "CHECKPOINT_INVALID", message: /over 4000000/ });
  });

  it("reads on where the part of a file that it has in memory ends", () => {
    const words = Array.from({ length: 300_000 }, (_, k) => `word ${k}`);
    const pickle = Buffer.from(`(${words.map(text).join("")}t.`, "latin1");
    assert.ok(pickle.length > 3 * 2 ** 20);
    assert.deepEqual(read(pickle), words);
  });

  it("refuses to copy one list over and over", () => {
    const list = `](${"N".repeat(5000)}eq\x00`;
    const copies = "ccollections\nOrderedDict\nh\x00\x85R".repeat(1000);
    assert.throws(() => read(pickleOf(list, copies, ".")), {
      code: "CHECKPOINT_INVALID",
      message: /over and over/,
    });
  });

  it("reads a structure that is deeper than any call stack", () => {
    const depth = 500_000;
    const value = read(pickleOf("]".repeat(depth), "a".repeat(depth - 1), "."));
    assert.ok(Array.isArray(value) && value.length === 1);
  });

  const endsCleanly = (bytes: Uint8Array): void => {
    try {
      read(bytes);
    } catch (thrown) {
      assert.ok(thrown instanceof FleetError, `${thrown}`);
      assert.equal(thrown.code, "CHECKPOINT_INVALID");
    }
  };

  it("reads or refuses whatever bytes it gets", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), endsCleanly), { numRuns: 2000 });
  });

  it("reads or refuses what PyTorch wrote with any bytes changed", function () {
    this.timeout(20_000);
    for (const name of ["training.pth", "elements.pth"]) {
      const original = pickleIn(name);
      const position = fc.nat({ max: original.length - 1 });
      const changes = fc.array(fc.tuple(position, fc.nat({ max: 255 })), { maxLength: 4 });
      const property = fc.property(changes, (list) => {
        const changed = Buffer.from(original);
        for (const [at, byte] of list) changed[at] = byte;
        endsCleanly(changed);
      });
      fc.assert(property, { numRuns: 300 });
    }
  });
});
