import { defineConfig } from "vite";

// The gateway serves the files under this address. Nothing is inlined, neither as a script nor as a data: URL, since
// the Content-Security-Policy admits only files of our own.
export default defineConfig({
  base: "/static/dist/",
  build: {
    outDir: "../static/dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: "charts", test: /node_modules\/(echarts|zrender)\// }] } } },
    chunkSizeWarningLimit: 700, // ECharts, which only pages with charts load
  },
});
