// Folding what is shown of a log: steps, groups.

import { say } from "./words.js";

export class Folding {
  /** `log`: the panel. */
  constructor(log) {
    this.log = log;
  }

  /** Fold every step, of one step every group; where some are folded, unfold them all. */
  async all() {
    const { shown, source } = this.log;
    if (!await this.log.areMarksHere()) return;
    const { heads, folds } = source.marks;
    const firsts = shown.only?.size === 1 ? [...folds.keys()] : [...heads.values()];
    const close = !firsts.some((first) => shown.closed.has(first));
    this.toggle(firsts, close);
  }

  /** Fold what is in sight at the top, or unfold it. */
  here() {
    const { shown, places } = this.log;
    const fold = shown.foldAround(places.here());
    if (!fold) return;
    const close = !shown.closed.has(fold.first);
    this.toggle([fold.first], close);
    say(close ? "Folded" : "Unfolded");
  }

  /** Close folds, or open them: their first lines. */
  toggle(firsts, close) {
    const { shown, view, places } = this.log;
    const eye = places.here();
    shown.fold(firsts, close);
    view.resize(shown.total, view.extra);
    this.log.button("fold").setAttribute("aria-pressed", String(shown.closed.size > 0));
    if (!view.isFollowing && shown.has(eye) && places.selected) view.show(shown.rowOf(eye));
    this.log.refresh();
  }
}
