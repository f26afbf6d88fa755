// Batches of the key's tenant: how far they are, how fast, when they end; and a button that cancels.

import { ask } from "./api.js";
import { byId, make, write } from "./dom.js";
import { count, NONE, rate, share, span } from "./format.js";
import { badge, meter, row, Rows } from "./tables.js";

/** So many batches are asked for, the newest first. */
const LISTED = 20;
/** They are asked for at each so many looks: their counts are no newer at the gateway. */
const LOOKS = 3;
const LIVE = ["validating", "in_progress", "finalizing", "cancelling"];
const COLUMNS = [["Batch", "name"], ["State"], ["Lines done"], ["Failed", "number"], ["Lines a second", "number"],
  ["Ends in about", "number"], ["Model", "name"], [""]];

/** Draws the table of batches; it is not there while the tenant has none. */
export class Batches {
  #rows = new Rows("batches", (batch) => batchRow(batch, () => { this.#looks = 0; }));
  #looks = 0;
  #any = false;

  /** Ask for the batches if there may be some, and show them. Raises as the overview does. */
  async look(told, withinMs) {
    const isBusy = told.queues.some((queue) => queue.tier === "batch" && queue.waiting + queue.running > 0);
    if (!isBusy && !this.#any) return;
    if (this.#looks++ % LOOKS) return;
    const data = await this.#newest(withinMs);
    this.#any = data.length > 0;
    byId("batches-part").hidden = !this.#any;
    this.#rows.show(data.map((batch) => ({ ...progressOf(batch, told.at), id: batch.id, words: `${batch.id} ${batch.status} ${batch.model}` })));
  }

  async #newest(withinMs) {
    try {
      return (await (await ask(`batches?limit=${LISTED}`, { withinMs })).json()).data;
    } catch (error) {
      if (error.status === 404) return [];  // A gateway of an earlier release.
      throw error;
    }
  }
}

/** What a person wants to know of a batch: the rate is that since it began. */
export function progressOf(batch, now) {
  const { total, completed, failed } = batch.request_counts;
  const done = completed + failed;
  const seconds = batch.in_progress_at ? Math.max(1, now - batch.in_progress_at) : 0;
  const speed = batch.status === "in_progress" && done && seconds ? done / seconds : null;
  return { batch, done, total, failed, speed, left: speed ? (total - done) / speed : null, isLive: LIVE.includes(batch.status) };
}

const gravity = (status) => ({ completed: "good", failed: "bad", expired: "bad" })[status] ?? "busy";

function batchRow({ id }, changed) {
  const [node, cells] = row(COLUMNS);
  const [state, setState] = badge();
  const [lines, setLines] = meter();
  const cancel = make("button", { type: "button", className: "quiet", "aria-label": `Cancel ${id}` }, "Cancel");
  cancel.addEventListener("click", async () => {
    cancel.disabled = true;
    try {
      await ask(`batches/${encodeURIComponent(id)}/cancel`, { method: "POST" });
      changed();
    } catch (error) {
      write(cancel, error.message);
    }
  });
  cells[0].append(id);
  cells[1].append(state);
  cells[2].append(lines);
  cells[7].append(cancel);
  return {
    node,
    update({ batch, done, total, failed, speed, left, isLive }) {
      setState([batch.status.replace("_", " "), gravity(batch.status)]);
      setLines(done, total);
      write(cells[3], failed ? `${count(failed)} (${share(failed, total)})` : count(0));
      write(cells[4], speed === null ? NONE : rate(speed));
      write(cells[5], span(left));
      write(cells[6], batch.model || NONE);
      cancel.hidden = !isLive || batch.status === "cancelling";
    },
  };
}
