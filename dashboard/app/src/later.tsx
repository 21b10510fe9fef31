// A component whose code is loaded when it is first shown.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { text } from "./text";

export function later<P extends object>(load: () => Promise<{ default: ComponentType<P> }>): ComponentType<P> {
  let Loaded: ComponentType<P> | null = null;
  return function Later(props: P) {
    const [, show] = useState(false);
    const [hasFailed, fail] = useState(false);
    useEffect(() => {
      if (!Loaded) load().then((module) => { Loaded = module.default; show(true); }, () => fail(true));
    }, []);
    if (hasFailed) return <p role="alert">{text("failedPart")}</p>;
    return Loaded ? <Loaded {...props} /> : <p role="status">{text("loading")}</p>;
  };
}
