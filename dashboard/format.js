// Figures as people read them.

const whole = new Intl.NumberFormat("en");
const rough = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const NONE = "–";

const known = (number) => number !== null && number !== undefined;

export const count = (number) => (known(number) ? whole.format(number) : NONE);

/** A count that may be large: "8,200", "1.24M". */
export const about = (number) => (known(number) && number >= 10_000 ? rough.format(number) : count(number));

/** So many a second: the small ones to a tenth. */
export function rate(number) {
  if (!known(number)) return NONE;
  return count(number < 9.95 ? Number(number.toFixed(1)) : Math.round(number));
}

/** "1 model", "3 models". */
export const some = (number, noun, plural = `${noun}s`) => `${count(number)} ${number === 1 ? noun : plural}`;

/** A length of time in seconds, to about two digits. */
export function span(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(seconds < 0.995 ? 2 : 1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 5940) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const millis = (ms) => span(known(ms) ? ms / 1000 : null);

/** The time of day of a second since 1970, where the reader is. */
export const minuteOf = (second) => clock.format(new Date(second * 1000));

export function share(part, all) {
  if (!all) return "0 %";
  const percent = (100 * part) / all;
  return `${percent && percent < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`;
}

export const sum = (numbers) => numbers.reduce((all, one) => all + one, 0);

/** "a", "a and b", "a, b and 3 more". */
export function listed(names, most = 3) {
  if (names.length > most) return `${names.slice(0, most - 1).join(", ")} and ${names.length - most + 1} more`;
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
