// What a patient sends her insurer, as the wallet seals it: strict CBOR of ten items, read here and made anew.

import { join, utf8 } from "/static/wire.js";

function head(major, value) {
  const first = major << 5;
  if (value < 24) return Uint8Array.of(first | value);
  for (const [low, size] of [[24, 1], [25, 2], [26, 4], [27, 8]]) {
    if (value >= 256 ** size) continue;
    const bytes = Uint8Array.from({ length: size }, (_, at) => Math.floor(value / 256 ** (size - 1 - at)) % 256);
    return join(Uint8Array.of(first | low), bytes);
  }
  throw new Error("too large");
}

function item(value) {
  if (typeof value === "number") return head(0, value);
  const text = typeof value === "string", bytes = text ? utf8(value) : value;
  return join(head(text ? 3 : 2, bytes.length), bytes);
}

export const encode = (items) => join(head(4, items.length), ...items.map(item));

export function decode(bytes) {
  let at = 0;
  const next = () => {
    const first = bytes[at++];
    let number = first & 31;
    if (number >= 24) {
      const size = { 24: 1, 25: 2, 26: 4, 27: 8 }[number];
      number = 0;
      for (let left = size; left > 0; left--) number = number * 256 + bytes[at++];
    }
    return [first >> 5, number];
  };
  const [major, count] = next();
  if (major !== 4 || count !== 10) throw new Error("not a parcel");
  return Array.from({ length: count }, () => {
    const [kind, number] = next();
    if (kind === 0) return number;
    if (kind !== 2 && kind !== 3) throw new Error("not a parcel");
    const part = bytes.slice(at, at += number);
    return kind === 2 ? part : new TextDecoder("utf-8", { fatal: true }).decode(part);
  });
}
