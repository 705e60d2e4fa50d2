// "You may claim now": one tap agrees to what stands on the screen, and nothing else.

import { errand, onClick, said, say } from "/static/errand.js";
import { sameAsSigned } from "/static/screen.js";
import { keepGrant } from "/static/keys.js";
import { unbase64 } from "/static/wire.js";

for (const card of document.querySelectorAll("[data-offer]")) {
  const bytes = unbase64(card.dataset.signed), button = card.querySelector("[data-claim]");
  const shows = () => sameAsSigned(card, bytes, {
    sender: card.dataset.sender, recipient: card.dataset.recipient, notice: card.querySelector(".offer-notice").textContent,
  });
  onClick(button, async () => {
    const { asked, key } = await shows();
    const choice = { units: [], expiry: asked.expiry, data_erase_at: asked.data_erase_at, cap: asked.cap };
    const found = await errand("/api/claim", { claim: card.dataset.offer }, { kind: "grant", asked, bytes, choice });
    await keepGrant({ hash: found.grant, public: key.public, hospital: key.hospital, direct_pay: false });
    location.assign("/claims");
  });
  shows().then(() => { button.disabled = false; }, () => say(said["differs"], "bad"));
}
