import { BANDS, bandName } from "../text";

export function Band({ band }: { band: string | null }) {
  if (!band) return <span class="band">–</span>;
  const isKnown = band in BANDS;
  return (
    <span class={isKnown ? `band ${band}` : "band"}>
      {isKnown && <span aria-hidden="true">{BANDS[band as keyof typeof BANDS]}</span>}
      {bandName(band)}
    </span>
  );
}
