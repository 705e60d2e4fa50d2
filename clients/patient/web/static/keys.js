// The signing keys: drawn in this browser, not extractable, kept in IndexedDB. One for each hospital and recipient.

import { hex, join, utf8 } from "/static/wire.js";

// Of this wallet alone: a browser keeps what it keeps by address and port, where another person's is served another day.
const NAME = ["zhifu-wallet", document.body.dataset.wallet].filter(Boolean).join("-");
const SUITE = Uint8Array.of(1);

export const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("keys", { keyPath: "public" });
      asked.result.createObjectStore("grants", { keyPath: "hash" });
    };
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function store(name, mode, act) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(name, mode, { durability: "strict" });
      const asked = act(transaction.objectStore(name));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  } finally { database.close(); }
}

export const find = (name) => store("keys", "readonly", (keys) => keys.get(name));
export const all = () => store("keys", "readonly", (keys) => keys.getAll());
export const keep = (key) => store("keys", "readwrite", (keys) => keys.put(key));
export const keepGrant = (grant) => store("grants", "readwrite", (grants) => grants.put(grant));
export const findGrant = (hash) => store("grants", "readonly", (grants) => grants.get(hash));

/** A key for one hospital and recipient: the one that is here, or a new one, which the caller keeps. */
export async function draw(hospital, recipient) {
  return (await own(hospital, recipient)) ?? fresh(hospital, recipient);
}

/** The patient's own key for them; a further key, of whom this device watches over, is none. */
export const own = async (hospital, recipient) =>
  (await all()).find((key) => !key.subject && key.hospital === hospital && key.recipient === recipient);

/** A new key, which the caller keeps. */
export async function fresh(hospital, recipient) {
  await navigator.storage?.persist?.();
  const signing = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", signing.publicKey));
  return { public: hex(raw), raw, hospital, recipient, signing };
}

/** The signature of one payload by itself: label, suite and DSSE's pre-authentication, as a frame of one. */
export async function sign(key, kind, payload) {
  const media = utf8(kind.media);
  const pae = join(utf8(`DSSEv1 ${media.length} ${kind.media} ${payload.length} `), payload);
  const leaf = await sha256(Uint8Array.of(0), utf8(kind.label), SUITE, pae);
  const frame = join(utf8("zhifu/v1 frame\0"), SUITE, Uint8Array.of(0, 0, 0, 1), leaf);
  return new Uint8Array(await crypto.subtle.sign("Ed25519", key.signing.privateKey, frame));
}

const kind = (name) => ({ label: `zhifu/v1 ${name}\0`, media: `application/vnd.zhifu.${name.replaceAll(" ", "-")}.v1+protobuf` });
const PARCEL = { label: "zhifu/v1 parcel\0", media: "application/vnd.zhifu.parcel.v1+cbor", name: "parcel" };
export const KINDS = Object.fromEntries([...["grant", "ticket", "revocation", "subject key", "wallet", "acknowledgement"]
  .map((name) => [kind(name).media, { ...kind(name), name }]), [PARCEL.media, PARCEL]]);
