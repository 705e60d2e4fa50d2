// Checks inclusion proofs and notes with @sigstore/verify, one JSON object a line; prints "ok" or "bad" for each.
'use strict';
const crypto = require('crypto');
const path = require('path');
const readline = require('readline');
const parts = path.join(process.argv[2], '@sigstore', 'verify', 'dist', 'tlog');
const { verifyMerkleInclusion } = require(path.join(parts, 'merkle.js'));
const { verifyCheckpoint } = require(path.join(parts, 'checkpoint.js'));
const ED25519 = Buffer.from('302a300506032b6570032100', 'hex');

const raw = (text) => Buffer.from(text, 'base64');

function inclusion(q) {
  const entry = {
    canonicalizedBody: raw(q.Leaf),
    inclusionProof: { logIndex: String(q.Old), hashes: q.Proof.map(raw) },
  };
  verifyMerkleInclusion(entry, { logSize: BigInt(q.Size), logHash: raw(q.Root) });
}

function note(q) {
  const [name, id, ...rest] = q.Key.split('+');
  const key = rest.join('+');
  const der = Buffer.concat([ED25519, raw(key).subarray(1)]);
  const log = {
    logID: Buffer.from(id, 'hex'),
    baseURL: name,
    publicKey: crypto.createPublicKey({ key: der, format: 'der', type: 'spki' }),
  };
  verifyCheckpoint({ inclusionProof: { checkpoint: { envelope: raw(q.Note).toString() } } }, [log]);
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const q = JSON.parse(line);
  try {
    (q.Kind === 'note' ? note : inclusion)(q);
    console.log('ok');
  } catch (error) {
    console.log('bad');
  }
});
