/**
 * Reads a pickle without running it.
 *
 * A pickle is a program for a stack machine that may call any function of Python. This machine
 * calls none: what torch.save makes of dicts, numbers and tensors becomes plain data, everything
 * else inert stubs (pickle-globals.ts). Work is linear in the bytes, their number and that of the
 * opcodes is limited, and nothing recurses, so that no file can make it hang.
 */

import { FleetError } from "../../../proto/errors.ts";
import { callGlobal, namedGlobal, namedStorage } from "./pickle-globals.ts";
import type { PickleInput } from "./pickle-input.ts";
import { OPCODES as OP } from "./pickle-opcodes.ts";
import { isGlobal, type PickleStorage, type PickleValue } from "./pickle-values.ts";

/** A training checkpoint of ResNet-50 has about ten thousand. */
const OPCODES_MAX = 4_000_000;
const PROTOCOL_MAX = 5;

export interface Unpickled {
  readonly value: PickleValue;
  /** Every storage that it mentions, by key. */
  readonly storages: ReadonlyMap<string, PickleStorage>;
}

/**
 * Reads the next pickle of `input`, up to its end. Byte arrays in it are views.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when it is damaged, too large, or names what could do
 *   harm in Python
 */
export function unpickle(input: PickleInput): Unpickled {
  const machine = new PickleMachine(input);
  return { value: machine.run(), storages: machine.storages };
}

class PickleMachine {
  readonly storages = new Map<string, PickleStorage>();
  readonly #input: PickleInput;
  readonly #memo = new Map<number, PickleValue>();
  #stack: PickleValue[] = [];
  /** The stacks below the marks. */
  readonly #below: PickleValue[][] = [];

  /** Items that calls may still copy: one list may be the argument of many. */
  #copiesLeft = OPCODES_MAX;

  constructor(input: PickleInput) {
    this.#input = input;
  }

  run(): PickleValue {
    for (let count = 0; count < OPCODES_MAX; count++) {
      const opcode = this.#input.unsigned(1);
      if (opcode === OP.STOP) return this.#pop();
      const isDone =
        this.#pushConstant(opcode) ||
        this.#pushBytes(opcode) ||
        this.#collect(opcode) ||
        this.#make(opcode) ||
        this.#move(opcode);
      if (!isDone) {
        const code = `0x${opcode.toString(16).padStart(2, "0")}`;
        throw this.#invalid(`has an opcode ${code}, which torch.save does not write,`);
      }
    }
    throw new FleetError("CHECKPOINT_INVALID", `its pickle has over ${OPCODES_MAX} opcodes`);
  }

  /** Numbers and empty collections. */
  #pushConstant(opcode: number): boolean {
    const input = this.#input;
    switch (opcode) {
      case OP.NONE:
        return this.#push(undefined);
      case OP.NEWTRUE:
        return this.#push(true);
      case OP.NEWFALSE:
        return this.#push(false);
      case OP.BININT:
        return this.#push(input.int32());
      case OP.BININT1:
        return this.#push(input.unsigned(1));
      case OP.BININT2:
        return this.#push(input.unsigned(2));
      case OP.LONG1:
        return this.#push(input.integer(input.unsigned(1)));
      case OP.LONG4:
        return this.#push(input.integer(input.unsigned(4)));
      case OP.BINFLOAT:
        return this.#push(input.float64());
      case OP.EMPTY_TUPLE:
      case OP.EMPTY_LIST:
        return this.#push([]);
      case OP.EMPTY_DICT:
        return this.#push(new Map());
      case OP.EMPTY_SET:
        return this.#push({ type: "stub", of: "builtins.set" });
      default:
        return false;
    }
  }

  #pushBytes(opcode: number): boolean {
    const input = this.#input;
    switch (opcode) {
      case OP.SHORT_BINUNICODE:
      case OP.SHORT_BINSTRING:
        return this.#push(input.text(input.unsigned(1)));
      case OP.BINUNICODE:
      case OP.BINSTRING:
        return this.#push(input.text(input.unsigned(4)));
      case OP.BINUNICODE8:
        return this.#push(input.text(input.unsigned64()));
      case OP.SHORT_BINBYTES:
        return this.#push(input.take(input.unsigned(1)));
      case OP.BINBYTES:
        return this.#push(input.take(input.unsigned(4)));
      case OP.BINBYTES8:
      case OP.BYTEARRAY8:
        return this.#push(input.take(input.unsigned64()));
      default:
        return false;
    }
  }

  /** Tuples of what lies on the stack, and additions to lists, dicts and sets. */
  #collect(opcode: number): boolean {
    switch (opcode) {
      case OP.TUPLE1:
      case OP.TUPLE2:
      case OP.TUPLE3:
        return this.#push(this.#popMany(opcode - OP.TUPLE1 + 1));
      case OP.TUPLE:
        return this.#push(this.#popToMark());
      case OP.FROZENSET:
        this.#popToMark();
        return this.#push({ type: "stub", of: "builtins.frozenset" });
      case OP.APPEND:
        return this.#append(this.#popMany(1));
      case OP.APPENDS:
        return this.#append(this.#popToMark());
      case OP.SETITEM:
        return this.#setItems(this.#popMany(2));
      case OP.SETITEMS:
        return this.#setItems(this.#popToMark());
      case OP.ADDITEMS:
        this.#popToMark();
        return true;
      default:
        return false;
    }
  }

  /** Where Python would look up classes and call them. */
  #make(opcode: number): boolean {
    switch (opcode) {
      case OP.GLOBAL:
        return this.#push(namedGlobal(this.#input.line(), this.#input.line()));
      case OP.STACK_GLOBAL: {
        const [module, name] = this.#popMany(2);
        if (typeof module === "string" && typeof name === "string") {
          return this.#push(namedGlobal(module, name));
        }
        throw this.#invalid("names a class by something that is no text");
      }
      case OP.REDUCE:
      case OP.NEWOBJ:
        return this.#call(this.#popMany(2));
      case OP.NEWOBJ_EX:
        return this.#call(this.#popMany(3));
      case OP.BUILD:
        // Attributes, such as the _metadata of a state_dict: nothing here has any.
        this.#pop();
        return this.#push(this.#pop());
      case OP.BINPERSID:
        return this.#pushStorage(namedStorage(this.#pop()));
      case OP.EXT1:
      case OP.EXT2:
      case OP.EXT4:
        throw this.#invalid("calls on Python's extension registry");
      default:
        return false;
    }
  }

  /** Marks and the memo. */
  #move(opcode: number): boolean {
    const input = this.#input;
    switch (opcode) {
      case OP.MARK:
        this.#below.push(this.#stack);
        this.#stack = [];
        return true;
      case OP.POP:
        // Above a mark with nothing on it, this takes the mark.
        this.#stack.length > 0 ? this.#pop() : this.#popToMark();
        return true;
      case OP.POP_MARK:
        this.#popToMark();
        return true;
      case OP.DUP:
        return this.#push(this.#top());
      case OP.BINGET:
        return this.#recall(input.unsigned(1));
      case OP.LONG_BINGET:
        return this.#recall(input.unsigned(4));
      case OP.BINPUT:
        return this.#remember(input.unsigned(1));
      case OP.LONG_BINPUT:
        return this.#remember(input.unsigned(4));
      case OP.MEMOIZE:
        return this.#remember(this.#memo.size);
      case OP.PROTO: {
        const protocol = input.unsigned(1);
        if (protocol <= PROTOCOL_MAX) return true;
        throw this.#invalid(`is of protocol ${protocol}`);
      }
      case OP.FRAME:
        input.unsigned64();
        return true;
      default:
        return false;
    }
  }

  #append(items: readonly PickleValue[]): boolean {
    const target = this.#top();
    if (!Array.isArray(target)) return true;
    for (const item of items) target.push(item);
    return true;
  }

  #setItems(items: readonly PickleValue[]): boolean {
    const target = this.#top();
    if (items.length % 2 !== 0) throw this.#invalid("has a key without a value");
    if (!(target instanceof Map)) return true;
    for (let at = 0; at < items.length; at += 2) target.set(items[at], items[at + 1]);
    return true;
  }

  #call([callee, args]: readonly PickleValue[]): boolean {
    // Calling a stub or the result of a call: whatever that would be.
    if (!isGlobal(callee)) return this.#push({ type: "stub", of: "the result of a call" });
    const values = Array.isArray(args) ? args : [];
    if (Array.isArray(values[0])) this.#copiesLeft -= values[0].length;
    if (this.#copiesLeft < 0) throw this.#invalid("copies the same items over and over");
    return this.#push(callGlobal(callee, values));
  }

  #pushStorage(storage: PickleStorage | undefined): boolean {
    if (!storage) return this.#push({ type: "stub", of: "persistent id" });
    this.storages.set(storage.key, storage);
    return this.#push(storage);
  }

  #recall(index: number): boolean {
    if (!this.#memo.has(index)) throw this.#invalid(`recalls ${index}, which it never stored,`);
    return this.#push(this.#memo.get(index));
  }

  #remember(index: number): boolean {
    this.#memo.set(index, this.#top());
    return true;
  }

  #push(value: PickleValue): true {
    this.#stack.push(value);
    return true;
  }

  #top(): PickleValue {
    if (this.#stack.length === 0) throw this.#invalid("takes from an empty stack");
    return this.#stack.at(-1);
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue[] {
    if (this.#stack.length < count) throw this.#invalid("takes from an empty stack");
    return this.#stack.splice(-count);
  }

  #popToMark(): PickleValue[] {
    const below = this.#below.pop();
    if (!below) throw this.#invalid("has no mark where it goes back to one");
    const items = this.#stack;
    this.#stack = below;
    return items;
  }

  #invalid(what: string): FleetError {
    const where = `at byte ${this.#input.position}`;
    return new FleetError("CHECKPOINT_INVALID", `its pickle ${what} ${where}: it is damaged`);
  }
}
