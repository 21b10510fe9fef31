// Acts on several leads, a few at the same time.

const AT_ONCE = 4;

/** How many failed. */
export async function forEach<T>(all: readonly T[], act: (one: T) => Promise<unknown>): Promise<number> {
  const waiting = [...all];
  let failed = 0;
  const work = async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await act(one).catch(() => { failed += 1; });
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return failed;
}
