// The signed messages as bytes: canonical protobuf, the very few shapes that a wallet signs or reads
// (proto/zhifu/v1/signed.proto). What does not come out byte for byte as it went in is refused.

const U = "uint", B = "bytes", S = "string";
const SCOPE = { schema_hash: [1, B], levels: [2, B] };
const HEAD = { version: [1, U], suite: [2, U] };

export const GRANT = { ...HEAD, grant_id: [3, B], subject_key: [4, B], aud: [5, S], purpose: [6, S], sender: [7, B],
  recipient: [8, B], encounter: [9, B], scopes: [10, SCOPE], max_uses: [11, U], not_before: [12, U], expiry: [13, U],
  issued_at: [14, U], mode: [15, U], cnf: [16, B], data_erase_at: [17, U], terms: [18, B], request_hash: [19, B],
  wallet_key: [20, B] };
export const REQUEST = { ...HEAD, request_id: [3, B], aud: [4, S], purpose: [5, S], sender: [6, B], recipient: [7, B],
  encounter: [8, B], scopes: [9, SCOPE], max_uses: [10, U], issued_at: [11, U], expiry: [12, U], data_erase_at: [13, U],
  terms_salt: [14, B], terms: [15, B], subject_key: [16, B], mode: [17, U] };
export const TICKET = { ...HEAD, grant_hash: [3, B], nonce: [4, B], hospital: [5, B], issued_at: [6, U] };
export const REVOCATION = { ...HEAD, aud: [3, S], grant_hash: [4, B], issued_at: [5, U], subject: [6, B], by: [7, U],
  reason: [8, S] };
export const SUBJECT_KEY = { ...HEAD, aud: [3, S], subject: [4, B], change: [5, U], key: [6, B], role: [7, U],
  issued_at: [8, U] };
export const PROOF = { ...HEAD, aud: [3, S], challenge: [4, B], method: [5, S] };
export const ACKNOWLEDGEMENT = { ...HEAD, aud: [3, S], recipient: [4, B], presentation_hash: [5, B], leaf_hash: [6, B],
  index: [7, U], size: [8, U], root: [9, B], outcome: [10, U], reason: [11, S], issued_at: [12, U] };

export const utf8 = (text) => new TextEncoder().encode(text);
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
export const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
export const unbase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
export const equal = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);

export function join(...parts) {
  const found = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { found.set(part, at); at += part.length; }
  return found;
}

function varint(number) {
  if (!Number.isSafeInteger(number) || number < 0) throw new Error("not a number that is signed here");
  const found = [];
  while (number > 127) { found.push((number % 128) | 128); number = Math.floor(number / 128); }
  return Uint8Array.from([...found, number]);
}

function field(number, type, value) {
  if (type === U) return join(varint(number * 8), varint(value));
  const content = type === S ? utf8(value) : type === B ? value : encode(type, value);
  return join(varint(number * 8 + 2), varint(content.length), content);
}

/** The one canonical encoding: ascending fields, no defaults. */
export function encode(shape, message) {
  const parts = [];
  for (const [name, [number, type]] of Object.entries(shape)) {
    const value = message[name];
    if (typeof type === "object") for (const one of value ?? []) parts.push(field(number, type, one));
    else if (value !== undefined && value !== 0 && value.length !== 0) parts.push(field(number, type, value));
  }
  return join(...parts);
}

/** A message, if `bytes` are its canonical encoding. Throws otherwise. */
export function decode(shape, bytes) {
  const names = new Map(Object.entries(shape).map(([name, [number, type]]) => [number, [name, type]]));
  const message = {};
  let at = 0;
  const read = () => {
    let number = 0, scale = 1;
    for (;;) {
      if (at >= bytes.length || scale > 2 ** 49) throw new Error("not a message");
      const byte = bytes[at++];
      number += (byte & 127) * scale;
      if (byte < 128) return number;
      scale *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = read(), known = names.get(Math.floor(tag / 8));
    if (!known || tag % 8 !== (known[1] === U ? 0 : 2)) throw new Error("an unknown field");
    const [name, type] = known;
    if (type === U) { message[name] = read(); continue; }
    const length = read(), content = bytes.slice(at, at + length);
    if (content.length !== length) throw new Error("not a message");
    at += length;
    if (typeof type === "object") (message[name] ??= []).push(decode(type, content));
    else message[name] = type === S ? new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content) : content;
  }
  if (!equal(encode(shape, message), bytes)) throw new Error("not the canonical encoding");
  if (shape.version && (message.version !== 1 || message.suite !== 1)) throw new Error("an unknown version");
  return message;
}

/** Strict CBOR of a flat array of whole numbers, texts and null: a request's terms. */
export function cbor(items) {
  const head = (major, number) => {
    if (number < 24) return Uint8Array.of(major * 32 + number);
    for (const [size, code] of [[1, 24], [2, 25], [4, 26], [8, 27]]) {
      if (number < 2 ** (8 * size)) {
        const view = new DataView(new ArrayBuffer(8));
        view.setBigUint64(0, BigInt(number));
        return join(Uint8Array.of(major * 32 + code), new Uint8Array(view.buffer).slice(8 - size));
      }
    }
    throw new Error("too large");
  };
  const one = (item) => item === null ? Uint8Array.of(0xf6) : typeof item === "number" ? head(0, item)
    : join(head(3, utf8(item).length), utf8(item));
  return join(head(4, items.length), ...items.map(one));
}

/** The inverse of `cbor`; throws for anything that `cbor` would not make. */
export function uncbor(bytes) {
  let at = 0;
  const head = () => {
    const first = bytes[at++], low = first & 31;
    let number = low;
    if (low >= 24) {
      const size = { 24: 1, 25: 2, 26: 4, 27: 8 }[low];
      number = 0;
      for (let count = 0; count < size; count++) number = number * 256 + bytes[at++];
    }
    return [first >> 5, number, first];
  };
  const [major, count] = head(), items = [];
  if (major !== 4 || count > 16) throw new Error("not terms");
  for (let left = count; left > 0; left--) {
    const [kind, number, first] = head();
    if (first === 0xf6) items.push(null);
    else if (kind === 0) items.push(number);
    else if (kind === 3) { items.push(new TextDecoder("utf-8", { fatal: true }).decode(bytes.slice(at, at + number))); at += number; }
    else throw new Error("not terms");
  }
  if (!equal(cbor(items), bytes)) throw new Error("not the canonical terms");
  return items;
}
