// The recovery code: drawn here, shown once, and made into keys here. It is never sent anywhere
// (proto/README.md, "A recovery code").

import { hex, join, unhex, unbase64, utf8 } from "/static/wire.js";
import { origin } from "/static/errand.js";
import { sha256 } from "/static/keys.js";
import { ROLES } from "/static/check.js";

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BYTES = 20;

export class Slip extends Error {}

function base32(bytes) {
  let text = "", bits = 0, held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) { bits -= 5; text += LETTERS[(held >> bits) & 31]; }
    held &= (1 << bits) - 1;
  }
  return text;
}

function unbase32(text) {
  const found = [];
  let bits = 0, held = 0;
  for (const letter of text) {
    const value = LETTERS.indexOf(letter);
    if (value < 0) throw new Slip();
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) { bits -= 8; found.push((held >> bits) & 255); }
    held &= (1 << bits) - 1;
  }
  return Uint8Array.from(found);
}

const check = async (bits) => base32((await sha256(utf8("zhifu/v1 recovery check\0"), bits)).slice(0, 3)).slice(0, 4);

/** A new code: eight groups of four, and a ninth that finds slips. */
export async function drawCode() {
  const bits = crypto.getRandomValues(new Uint8Array(BYTES));
  return (base32(bits) + await check(bits)).match(/.{4}/g).join("-");
}

/** The code's key for one hospital and recipient, to be lent to an errand; throws `Slip` for a mistyped code. */
export async function recoveryKey(code, hospital, recipient, subject) {
  const text = code.toUpperCase().replace(/[\s-]/g, "").replaceAll("0", "O").replaceAll("1", "I").replaceAll("8", "B");
  if (text.length !== 36) throw new Slip();
  const bits = unbase32(text.slice(0, 32));
  if (text.slice(32) !== await check(bits)) throw new Slip();
  const secret = await crypto.subtle.importKey("raw", join(bits, new Uint8Array(32 - BYTES)), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const info = join(utf8("zhifu/v1 recovery\0"), unhex(hospital), unhex(recipient), Uint8Array.of(1));
  const seed = new Uint8Array(await crypto.subtle.sign("HMAC", secret, info));
  // PKCS #8 of an Ed25519 seed (RFC 8410); once readable, for its public half alone.
  const pkcs8 = join(unhex("302e020100300506032b657004220420"), seed);
  const readable = await crypto.subtle.exportKey("jwk", await crypto.subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, true, ["sign"]));
  const raw = unbase64(readable.x.replaceAll("-", "+").replaceAll("_", "/"));
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, { name: "Ed25519" }, false, ["sign"]);
  return { public: hex(raw), raw, hospital, recipient, signing: { privateKey }, origin, subject, role: ROLES.recovery };
}
