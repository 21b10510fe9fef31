// The texts of the page in the reader's language, and how numbers and moments are written in it.

import { computed, signal } from "@preact/signals";
import { de } from "./texts/de";
import { en, type Texts } from "./texts/en";
import { es } from "./texts/es";
import { fa } from "./texts/fa";
import { EVENT_NAMES, OWN_NAMES } from "./texts/names";

export type Language = "en" | "de" | "es" | "fa";
export const LANGUAGES: Record<string, Texts> = { en, de, es, fa };
const RIGHT_TO_LEFT = new Set(["fa"]);

const wanted = [new URLSearchParams(location.search).get("lang"), localStorage.getItem("language"), ...navigator.languages];
export const language = signal(wanted.map((each) => each?.slice(0, 2) ?? "").find((each) => each in LANGUAGES) ?? "en");

language.subscribe((chosen) => {
  document.documentElement.lang = chosen;
  document.documentElement.dir = RIGHT_TO_LEFT.has(chosen) ? "rtl" : "ltr";
});

export function chooseLanguage(chosen: string): void {
  localStorage.setItem("language", chosen);
  language.value = chosen;
}

export function text(key: keyof Texts, values: Record<string, string | number> = {}): string {
  const template = (LANGUAGES[language.value] ?? en)[key];
  return template.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

const numbers = computed(() => new Intl.NumberFormat(language.value, { maximumFractionDigits: 2 }));
const short = computed(() => new Intl.NumberFormat(language.value, { notation: "compact", maximumFractionDigits: 1 }));
const relative = computed(() => new Intl.RelativeTimeFormat(language.value, { numeric: "auto", style: "short" }));
/** The tenant's time zone (IANA); undefined: not read yet. */
export const zone = signal<string | undefined>(undefined);
const moments = computed(() => new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeStyle: "medium", timeZone: zone.value }));

/** What is read from left to right in a sentence of either direction: a phone number, a signed number. */
export const leftToRight = (value: string): string => (document.documentElement.dir === "rtl" ? `\u2066${value}\u2069` : value);
/** With at most two digits behind the point, or as many as are asked for. */
export const number = (value: number, digits?: number): string => (digits === undefined ? numbers.value : new Intl.NumberFormat(language.value, { maximumFractionDigits: digits })).format(value);
export const shortNumber = (value: number): string => short.value.format(value);
export const signed = (points: number): string => leftToRight(`${points < 0 ? "−" : "+"}${number(Math.abs(points))}`);
export const exactly = (moment: string | number): string => moments.value.format(new Date(moment));

/** An amount of a currency; a code that nobody knows stays behind the number. */
export function amount(value: number, currency: string): string {
  try {
    return new Intl.NumberFormat(language.value, { style: "currency", currency }).format(value);
  } catch {
    return `${number(value)} ${currency}`;
  }
}

/** A day in the tenant's zone. */
export const exactDay = (moment: string | Date, zone: string): string => new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeZone: zone }).format(new Date(moment));

/** How far the server's clock is ahead of this one, in milliseconds. */
export const clockSkew = signal(0);

/** The moment up to which times are counted, if a page shows one that is not now. */
export const shownMoment = signal<number | null>(null);

/** A length of time, as short as it can be. */
export function lengthOf(seconds: number): string {
  const minutes = Math.floor(seconds / 60);
  return minutes ? `${number(minutes)} min` : `${number(Math.round(seconds))} s`;
}

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

export function ago(moment: string | null): string {
  if (!moment) return text("never");
  const seconds = Math.max(0, ((shownMoment.value ?? Date.now() + clockSkew.value) - Date.parse(moment)) / 1000);
  const [unit, length] = UNITS.find(([, each]) => seconds >= each) ?? ["second", 1];
  return relative.value.format(-Math.floor(seconds / length), unit);
}

/** Names of stages, rules and event types, which the log has with underscores. */
export const words = (name: string): string => name.replaceAll("_", " ").replace(/\b(qr|sms)\b/, (found) => found.toUpperCase());

/** An event in plain words; one of the tenant's own by the name that its author gave it. */
export function eventName(type: string, name?: string | null): string {
  const [own, custom] = type.split(":");
  if (own === "custom" && (name || custom)) return words(name || custom || "");
  return EVENT_NAMES[type]?.[language.value as Language] ?? words(type);
}

/** A rule, a group, a model or a flag of the product in the reader's language; one of the tenant's own as it is written. */
export function ownName(name: string): string {
  const plain = words(name);
  const translated = Object.hasOwn(OWN_NAMES, plain) ? OWN_NAMES[plain] : undefined;
  return (language.value === "en" ? undefined : translated?.[language.value as Exclude<Language, "en">]) ?? plain;
}

/** One of several, as a sentence says it. */
export const anyOf = (names: readonly string[]): string => new Intl.ListFormat(language.value, { type: "disjunction" }).format(names);

/** A stage of the product by its name in the reader's language, one of the tenant's own as it is written. */
export const stageName = (stage: string): string => (`stage_${stage}` in en ? text(`stage_${stage}` as keyof Texts) : words(stage));

export function bandName(band: string): string {
  return band in BANDS ? text(band as keyof typeof BANDS) : words(band);
}

export const BANDS = { burning: "🔥", hot: "🌶️", warm: "☀️", cold: "❄️" };
