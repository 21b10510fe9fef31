// The pages that the bar at the top leads to, in its order.

import type { ComponentType } from "preact";
import { may } from "./api";
import { later } from "./later";
import { CallList } from "./leads/CallList";
import { isShop, path } from "./route";
import type { Texts } from "./texts/en";

type PageOfBar = { root: string; title: keyof Texts; Page: ComponentType; isListed: () => boolean };

const always = (): boolean => true;

export const PAGES: readonly PageOfBar[] = [
  { root: "/", title: "callList", Page: CallList, isListed: always },
  { root: "/lead-analytics", title: "leadAnalytics", Page: later(() => import("./analytics/AnalyticsPage")), isListed: always },
  { root: "/models", title: "models", Page: later(() => import("./models/ModelsPage")), isListed: always },
  { root: "/workflows", title: "workflows", Page: later(() => import("./workflows/WorkflowsPage")), isListed: always },
  { root: "/experiments", title: "experiments", Page: later(() => import("./experiments/ExperimentsPage")), isListed: always },
  { root: "/flows", title: "flows", Page: later(() => import("./flows/FlowsPage")), isListed: always },
  { root: "/inspector", title: "inspector", Page: later(() => import("./operating/InspectorPage")), isListed: always },
  { root: "/operations", title: "operations", Page: later(() => import("./operating/OperationsPage")), isListed: () => may("admin") },
  { root: "/demo", title: "demo", Page: later(() => import("./demo/DemoPage")), isListed: () => isShop(path.value) },
];
