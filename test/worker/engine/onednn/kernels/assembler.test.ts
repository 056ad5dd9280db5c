/** What GNU as makes of the same instructions, as objdump shows it. */

import assert from "node:assert/strict";
import {
  Assembler,
  GP,
  LESS_THAN,
  memory,
  vector,
} from "../../../../../worker/engine/onednn/kernels/assembler.ts";

const { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14 } = GP;
const y = vector;

type Emit = (asm: Assembler) => void;

const GENERAL: readonly (readonly [string, Emit, string])[] = [
  ["push rbx", (asm) => asm.push(rbx), "53"],
  ["push r12", (asm) => asm.push(r12), "41 54"],
  ["pop r13", (asm) => asm.pop(r13), "41 5d"],
  ["pop rdi", (asm) => asm.pop(rdi), "5f"],
  ["ret", (asm) => asm.ret(), "c3"],
  ["call rax", (asm) => asm.call(rax), "ff d0"],
  ["call r11", (asm) => asm.call(r11), "41 ff d3"],
  ["{load} mov rbx, rdi", (asm) => asm.mov(rbx, rdi), "48 8b df"],
  ["mov r12, [rbx+8]", (asm) => asm.mov(r12, memory(rbx, 8)), "4c 8b 63 08"],
  ["mov rax, [rsp]", (asm) => asm.mov(rax, memory(rsp)), "48 8b 04 24"],
  ["mov rdx, [r12]", (asm) => asm.mov(rdx, memory(r12)), "49 8b 14 24"],
  ["mov rdx, [rbp]", (asm) => asm.mov(rdx, memory(rbp)), "48 8b 55 00"],
  ["mov rdx, [r13+r14]", (asm) => asm.mov(rdx, memory(r13, 0, r14)), "4b 8b 54 35 00"],
  [
    "mov rdx, [rax+rcx+1000]",
    (asm) => asm.mov(rdx, memory(rax, 1000, rcx)),
    "48 8b 94 08 e8 03 00 00",
  ],
  [
    "movabs rax, 0x7f1234567890",
    (asm) => asm.movabs(rax, 0x7f1234567890),
    "48 b8 90 78 56 34 12 7f 00 00",
  ],
  ["movabs r8, 1", (asm) => asm.movabs(r8, 1), "49 b8 01 00 00 00 00 00 00 00"],
  ["{load} mov r12d, eax", (asm) => asm.mov32(r12, rax), "44 8b e0"],
  ["{load} xor eax, eax", (asm) => asm.clear(rax), "33 c0"],
  ["{load} xor r9d, r9d", (asm) => asm.clear(r9), "45 33 c9"],
  ["add rdx, 128", (asm) => asm.add(rdx, 128), "48 81 c2 80 00 00 00"],
  ["add rax, -128", (asm) => asm.add(rax, -128), "48 83 c0 80"],
  ["{load} add r13, r12", (asm) => asm.add(r13, r12), "4d 03 ec"],
  ["add rdx, [rbx+48]", (asm) => asm.add(rdx, memory(rbx, 48)), "48 03 53 30"],
  ["sub rcx, 32", (asm) => asm.sub(rcx, 32), "48 83 e9 20"],
  ["{load} sub rcx, rdx", (asm) => asm.sub(rcx, rdx), "48 2b ca"],
  ["cmp rcx, 16384", (asm) => asm.cmp(rcx, 16384), "48 81 f9 00 40 00 00"],
  ["{load} cmp rcx, r8", (asm) => asm.cmp(rcx, r8), "49 3b c8"],
  ["cmp r13, [rbx]", (asm) => asm.cmp(r13, memory(rbx)), "4c 3b 2b"],
  ["imul rax, rcx", (asm) => asm.imul(rax, rcx), "48 0f af c1"],
  ["imul r9, [rbx+16]", (asm) => asm.imul(r9, memory(rbx, 16)), "4c 0f af 4b 10"],
  ["shl r11, 5", (asm) => asm.shl(r11, 5), "49 c1 e3 05"],
  ["div rcx", (asm) => asm.div(rcx), "48 f7 f1"],
  ["div r8", (asm) => asm.div(r8), "49 f7 f0"],
];

const MOVES: readonly (readonly [string, Emit, string])[] = [
  ["vzeroupper", (asm) => asm.vzeroupper(), "c5 f8 77"],
  ["vmovups ymm1, [rsi+rax]", (asm) => asm.vmovups(y(1), memory(rsi, 0, rax)), "c5 fc 10 0c 06"],
  [
    "vmovups ymm9, [r8+rax+96]",
    (asm) => asm.vmovups(y(9), memory(r8, 96, rax)),
    "c4 41 7c 10 4c 00 60",
  ],
  [
    "vmovups [rdx+r11+32], ymm10",
    (asm) => asm.vmovups(memory(rdx, 32, r11), y(10)),
    "c4 21 7c 11 54 1a 20",
  ],
  ["vmovups ymm3, ymm4", (asm) => asm.vmovups(y(3), y(4)), "c5 fc 10 dc"],
  ["vmovups [rdi+rax], xmm5", (asm) => asm.vmovups128(memory(rdi, 0, rax), y(5)), "c5 f8 11 2c 07"],
  ["vmovss xmm2, [rsi+rax]", (asm) => asm.vmovss(y(2), memory(rsi, 0, rax)), "c5 fa 10 14 06"],
  ["vmovss [r9+rax], xmm12", (asm) => asm.vmovss(memory(r9, 0, rax), y(12)), "c4 41 7a 11 24 01"],
  [
    "vbroadcastss ymm3, [rbx+88]",
    (asm) => asm.vbroadcastss(y(3), memory(rbx, 88)),
    "c4 e2 7d 18 5b 58",
  ],
  [
    "vpbroadcastw ymm3, [rsi+rax]",
    (asm) => asm.vpbroadcastw(y(3), memory(rsi, 0, rax)),
    "c4 e2 7d 79 1c 06",
  ],
  [
    "vpmovzxwd ymm8, [r10+rax+16]",
    (asm) => asm.vpmovzxwd(y(8), memory(r10, 16, rax)),
    "c4 42 7d 33 44 02 10",
  ],
  [
    "vcvtps2pd ymm2, [rsi+rax+16]",
    (asm) => asm.vcvtps2pd(y(2), memory(rsi, 16, rax)),
    "c5 fc 5a 54 06 10",
  ],
  ["vcvtps2pd ymm2, xmm13", (asm) => asm.vcvtps2pd(y(2), y(13)), "c4 c1 7c 5a d5"],
  ["vpackusdw xmm3, xmm3, xmm14", (asm) => asm.vpackusdw128(y(3), y(3), y(14)), "c4 c2 61 2b de"],
  ["vextracti128 xmm14, ymm3, 1", (asm) => asm.vextracti128(y(14), y(3)), "c4 c3 7d 39 de 01"],
  [
    "vpextrw [rsi+rax], xmm9, 0",
    (asm) => asm.vpextrw(memory(rsi, 0, rax), y(9)),
    "c4 63 79 15 0c 06 00",
  ],
];

const ARITHMETIC: readonly (readonly [string, Emit, string])[] = [
  ["vaddps ymm0, ymm1, ymm2", (asm) => asm.vaddps(y(0), y(1), y(2)), "c5 f4 58 c2"],
  ["vaddps ymm8, ymm9, ymm10", (asm) => asm.vaddps(y(8), y(9), y(10)), "c4 41 34 58 c2"],
  ["vaddps ymm8, ymm1, [r8]", (asm) => asm.vaddps(y(8), y(1), memory(r8)), "c4 41 74 58 00"],
  ["vsubps ymm1, ymm12, ymm3", (asm) => asm.vsubps(y(1), y(12), y(3)), "c5 9c 5c cb"],
  ["vmulps ymm1, ymm2, ymm15", (asm) => asm.vmulps(y(1), y(2), y(15)), "c4 c1 6c 59 cf"],
  ["vmaxps ymm7, ymm6, ymm7", (asm) => asm.vmaxps(y(7), y(6), y(7)), "c5 cc 5f ff"],
  ["vandps ymm7, ymm6, ymm5", (asm) => asm.vandps(y(7), y(6), y(5)), "c5 cc 54 fd"],
  ["vxorps ymm15, ymm15, ymm15", (asm) => asm.vxorps(y(15), y(15), y(15)), "c4 41 04 57 ff"],
  [
    "vcmplt_oqps ymm3, ymm2, ymm1",
    (asm) => asm.vcmpps(y(3), y(2), y(1), LESS_THAN),
    "c5 ec c2 d9 11",
  ],
  ["vaddpd ymm0, ymm1, ymm2", (asm) => asm.vaddpd(y(0), y(1), y(2)), "c5 f5 58 c2"],
  ["vfmadd213ps ymm1, ymm2, ymm3", (asm) => asm.vfmadd213ps(y(1), y(2), y(3)), "c4 e2 6d a8 cb"],
  [
    "vfmadd213ps ymm9, ymm10, [rsi+64]",
    (asm) => asm.vfmadd213ps(y(9), y(10), memory(rsi, 64)),
    "c4 62 2d a8 4e 40",
  ],
  ["vfmadd231ps ymm1, ymm14, ymm3", (asm) => asm.vfmadd231ps(y(1), y(14), y(3)), "c4 e2 0d b8 cb"],
  ["vfmadd231pd ymm1, ymm2, ymm11", (asm) => asm.vfmadd231pd(y(1), y(2), y(11)), "c4 c2 ed b8 cb"],
  ["vpcmpeqd ymm15, ymm15, ymm15", (asm) => asm.vpcmpeqd(y(15), y(15), y(15)), "c4 41 05 76 ff"],
  ["vpaddd ymm3, ymm4, ymm5", (asm) => asm.vpaddd(y(3), y(4), y(5)), "c5 dd fe dd"],
  ["vpslld ymm14, ymm3, 15", (asm) => asm.vpslld(y(14), y(3), 15), "c5 8d 72 f3 0f"],
  ["vpslld ymm3, ymm14, 16", (asm) => asm.vpslld(y(3), y(14), 16), "c4 c1 65 72 f6 10"],
  ["vpsrld ymm15, ymm15, 17", (asm) => asm.vpsrld(y(15), y(15), 17), "c4 c1 05 72 d7 11"],
];

describe("assembler", () => {
  for (const [text, emit, bytes] of [...GENERAL, ...MOVES, ...ARITHMETIC]) {
    it(`encodes ${text}`, () => assert.equal(assemble(emit), bytes));
  }

  it("jumps backwards and forwards", () => {
    const code = assemble((asm) => {
      const [before, after] = [asm.label(), asm.label()];
      asm.bind(before);
      asm.ret();
      asm.jump("aboveOrEqual", before);
      asm.jump("below", after);
      asm.jump("always", before);
      asm.bind(after);
      asm.ret();
    });
    const jumps = ["0f 83 f9 ff ff ff", "0f 82 05 00 00 00", "e9 ee ff ff ff"];
    assert.equal(code, ["c3", ...jumps, "c3"].join(" "));
  });

  it("gives out no code with a jump to nowhere", () => {
    assert.throws(() => assemble((asm) => asm.jump("always", asm.label())), /unbound label/);
  });

  it("refuses operands that do not exist", () => {
    assert.throws(() => y(16), /there is no ymm16/);
    assert.throws(() => memory(rax, 0, rsp), /rsp cannot be an index/);
    assert.throws(
      () => assemble((asm) => asm.vmovups(memory(rax), memory(rbx))),
      /memory cannot move to memory/,
    );
  });
});

function assemble(emit: Emit): string {
  const asm = new Assembler();
  emit(asm);
  return Buffer.from(asm.code())
    .toString("hex")
    .replace(/..(?!$)/g, "$& ");
}
