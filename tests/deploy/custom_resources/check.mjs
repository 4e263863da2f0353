// Holds custom resources against their definitions: node check.mjs FOLDER < resources.json
//
// FOLDER holds node_modules. Types come first: an object literal may have no key that its type does
// not know, at any depth, which the validators let pass. Then the validators: ranges and patterns.
// Prints an array of what is wrong, empty when nothing is.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const ts = createRequire(join(folder, "package.json"))("typescript");

const PACKAGES = {
  "kafka.strimzi.io": "strimzi-kafka-operator",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};

function placeOf({ apiVersion, kind }) {
  const [group] = apiVersion.split("/");
  return `@kubernetes-models/${PACKAGES[group] ?? group}/${apiVersion}/${kind}`;
}

function typeErrors(resources) {
  const name = join(folder, "resources.ts");
  const text = resources
    .map((each, n) => [
      `import type { I${each.kind} as T${n} } from "${placeOf(each)}";`,
      `export const r${n}: T${n} = ${JSON.stringify(each)};`,
    ])
    .flat()
    .join("\n");
  const options = {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    noEmit: true,
    skipLibCheck: true,
    strict: true,
    types: [],
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (file) => file === name || fileExists(file);
  host.getSourceFile = (file, ...rest) =>
    file === name ? ts.createSourceFile(file, text, ...rest) : getSourceFile(file, ...rest);
  const program = ts.createProgram([name], options, host);
  return ts.getPreEmitDiagnostics(program).map((each) => {
    const line = each.file?.getLineAndCharacterOfPosition(each.start).line ?? 0;
    const { kind, metadata } = resources[line >> 1] ?? {};
    return `${kind} ${metadata?.name}: ${ts.flattenDiagnosticMessageText(each.messageText, " ")}`;
  });
}

async function ruleErrors(resource) {
  const file = join(folder, "node_modules", `${placeOf(resource)}.js`);
  const { [resource.kind]: Model } = await import(pathToFileURL(file));
  try {
    new Model(resource).validate();
    return [];
  } catch (error) {
    return [`${resource.kind} ${resource.metadata.name}: ${error.message}`];
  }
}

const resources = JSON.parse(readFileSync(0, "utf8"));
const wrong = typeErrors(resources);
if (wrong.length === 0) {
  for (const each of resources) wrong.push(...(await ruleErrors(each)));
}
console.log(JSON.stringify(wrong));
