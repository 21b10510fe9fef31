// The latest voice message. It is decoded and played here: the policy of the pages allows no media elements, and the recording
// needs the caller's token.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { keyHeaders, read } from "../api";
import type { Reason } from "../leads/lead";
import { number, text } from "../text";

export function Voice({ leadId }: { leadId: string }) {
  const voice = useSignal<{ url: string | null; seconds: number | null } | null>(null);
  const problem = useSignal<string | null>(null);
  const playing = useSignal<AudioContext | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    read<{ reasons: Record<string, Reason> }>(`/api/call-list/reasons?lead_id=${encodeURIComponent(leadId)}`, stop.signal).then(
      ({ reasons }) => {
        const found = reasons[leadId];
        voice.value = found && (found.voice_url || found.voice_seconds !== null) ? { url: found.voice_url, seconds: found.voice_seconds } : null;
      },
      () => undefined,
    );
    return () => { stop.abort(); void playing.peek()?.close(); };
  }, [leadId]);
  const found = voice.value;
  if (!found) return null;
  const play = async (url: string) => {
    if (playing.value) {
      await playing.value.close();
      playing.value = null;
      return;
    }
    const context = new AudioContext();
    playing.value = context;
    try {
      const response = await fetch(url, { headers: keyHeaders() });
      if (!response.ok) throw new Error((await response.json().catch(() => null))?.error?.reason ?? `the server answered ${response.status}`);
      const source = context.createBufferSource();
      source.buffer = await context.decodeAudioData(await response.arrayBuffer());
      source.connect(context.destination);
      source.onended = () => { void context.close().catch(() => undefined); if (playing.value === context) playing.value = null; };
      source.start();
      problem.value = null;
    } catch (error) {
      if (playing.value === context) {
        problem.value = error instanceof Error ? error.message : String(error);
        playing.value = null;
        void context.close();
      }
    }
  };
  return (
    <section class="part"><h3>🎤 {text("voice")}</h3>
      <p>{found.seconds !== null && <>{text("voiceSeconds", { n: number(found.seconds) })} </>}
        {found.url ? <button type="button" onClick={() => void play(found.url ?? "")}>{text(playing.value ? "stopPlaying" : "play")}</button> : <span class="soft">{text("notPlayable")}</span>}</p>
      {problem.value && <p class="notice" role="alert">{problem.value}</p>}
    </section>
  );
}
