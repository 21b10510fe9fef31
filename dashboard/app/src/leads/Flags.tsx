import { ownName } from "../text";
import type { Flag } from "./lead";

/** Warnings and good signs of a score, in its words; the evidence when somebody points at one. */
export function Flags({ flags }: { flags: readonly Flag[] | undefined }) {
  return <>{(flags ?? []).map((flag) => (
    <span key={flag.name} class={`flag ${flag.colour}`} title={flag.evidence ?? undefined}><span aria-hidden="true">⚑</span> <bdi>{ownName(flag.text)}</bdi></span>
  ))}</>;
}
