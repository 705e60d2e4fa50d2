"use strict";
// Verifies one receipt of a Zhifu log with WebCrypto alone: leaf, inclusion (RFC 9162, 2.1.3.2), signed note (C2SP).
const text = new TextEncoder();
const bytes = (hex) => {
  if (!/^([0-9a-f]{2})*$/.test(hex)) throw new Error("hex");
  return Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
};
const base64 = (word) => Uint8Array.from(atob(word), (one) => one.charCodeAt(0));
const join = (...parts) => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { all.set(part, at); at += part.length; }
  return all;
};
const u64 = (number) => {
  if (!Number.isSafeInteger(number) || number < 0) throw new Error("number");
  const found = new Uint8Array(8);
  new DataView(found.buffer).setBigUint64(0, BigInt(number));
  return found;
};
const same = (a, b) => a.length === b.length && a.every((one, at) => one === b[at]);
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
const commit = async (key, label, content) => {
  const secret = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", secret, join(text.encode(label), content)));
};

async function leafHash(one) {
  const place = join(u64(one.index), u64(one.time_ms));
  if (one.plain) return sha256([0], text.encode("zhifu/v1 statement\0"), place, bytes(one.detail));
  const meta = one.meta ? await commit(bytes(one.meta_key), "zhifu/v1 audit meta\0", bytes(one.meta)) : bytes(one.meta_commitment);
  const detail = one.detail ? await commit(bytes(one.detail_key), "zhifu/v1 audit detail\0", bytes(one.detail)) : bytes(one.detail_commitment);
  if (meta.length !== 32 || detail.length !== 32) throw new Error("commitment");
  return sha256([0], text.encode("zhifu/v1 entry\0"), place, meta, detail);
}

function readProof(proof) {
  const cut = proof.indexOf("\n\n");
  const lines = proof.slice(0, cut).split("\n");
  if (cut < 0 || lines.shift() !== "c2sp.org/tlog-proof@v1") throw new Error("proof");
  if (lines[0].startsWith("extra ")) lines.shift();
  const index = Number(lines.shift().replace(/^index /, ""));
  return { index, path: lines.map(base64), note: proof.slice(cut + 2) };
}

async function rootOf(leaf, index, size, path) {
  if (index >= size) throw new Error("index");
  let fn = index, sn = size - 1, root = leaf;
  for (const node of path) {
    if (node.length !== 32 || sn === 0) throw new Error("path");
    if (fn % 2 === 1 || fn === sn) {
      root = await sha256([1], node, root);
      while (fn % 2 === 0 && fn !== 0) { fn = Math.floor(fn / 2); sn = Math.floor(sn / 2); }
    } else {
      root = await sha256([1], root, node);
    }
    fn = Math.floor(fn / 2); sn = Math.floor(sn / 2);
  }
  if (sn !== 0) throw new Error("path");
  return root;
}

// A key may hold + in its base64, so only the first two separate.
function readKey(word) {
  const match = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(word.trim());
  const raw = match ? base64(match[3]) : new Uint8Array();
  if (raw.length !== 33 || raw[0] !== 1) throw new Error("key");
  return { name: match[1], id: bytes(match[2]), algorithm: raw.slice(0, 1), key: raw.slice(1) };
}

async function signedBy(note, key) {
  const id = (await sha256(text.encode(key.name + "\n"), key.algorithm, key.key)).slice(0, 4);
  if (!same(id, key.id)) throw new Error("key");
  const cut = note.lastIndexOf("\n\n");
  const body = note.slice(0, cut + 1);
  const imported = await crypto.subtle.importKey("raw", key.key, { name: "Ed25519" }, false, ["verify"]);
  for (const line of note.slice(cut + 2).split("\n")) {
    const match = /^— (\S+) (\S+)$/.exec(line);
    const raw = match && match[1] === key.name ? base64(match[2]) : new Uint8Array();
    if (raw.length === 68 && same(raw.slice(0, 4), key.id) &&
        await crypto.subtle.verify({ name: "Ed25519" }, imported, raw.slice(4), text.encode(body))) {
      const [origin, size, root] = body.split("\n");
      if (origin !== key.name) throw new Error("origin");
      return { size: Number(size), root: base64(root) };
    }
  }
  throw new Error("signature");
}

async function verify(word, content, tell) {
  const one = JSON.parse(content);
  if (one.format !== "zhifu-receipt/1") throw new Error("format");
  const leaf = await leafHash(one);
  tell("leaf");
  const proof = readProof(one.proof);
  if (proof.index !== one.index) throw new Error("index");
  const head = await signedBy(proof.note, readKey(word));
  if (!same(await rootOf(leaf, one.index, head.size, proof.path), head.root)) throw new Error("root");
  tell("path");
  tell("note");
  return one;
}

const element = (id) => document.getElementById(id);
async function run() {
  const verdict = element("verdict");
  for (const step of document.querySelectorAll("[data-step]")) step.className = "";
  element("entry").textContent = "";
  try {
    const tell = (step) => { document.querySelector(`[data-step=${step}]`).className = "good"; };
    const one = await verify(element("key").value, element("receipt").value, tell);
    verdict.className = "good";
    verdict.textContent = verdict.dataset.good;
    element("entry").textContent = `#${one.index}  ${new Date(one.time_ms).toISOString()}`;
  } catch (error) {
    verdict.className = "bad";
    verdict.textContent = error.name === "NotSupportedError" ? verdict.dataset.unsupported : `${verdict.dataset.bad} (${error.message})`;
  }
}
element("run").addEventListener("click", run);
