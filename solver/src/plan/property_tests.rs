//! Laws that hold for any file: planning ends without a panic, says the same twice, and gives a graph that can be solved.

use std::collections::{BTreeSet, HashMap};

use mica_image::{ImageConfig, Platform};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::graph::{BuildGraph, ImageSource, Op, RunMountKind, Step};

const LINES: [&str; 44] = [
    "FROM scratch",
    "FROM alpine AS a",
    "FROM a AS b",
    "FROM b",
    "FROM a AS a",
    "FROM --platform=$BUILDPLATFORM ctx AS c",
    "FROM $BASE",
    "FROM trig AS t",
    "FROM t",
    "ARG BASE=alpine",
    "ARG X",
    "ARG X=$X-$Y TARGETARCH",
    "ENV X=1 Y=$X Z=${X:-d}",
    "ENV E=${X:?required}",
    "LABEL l=$X",
    "WORKDIR $X",
    "WORKDIR /w",
    "WORKDIR /",
    "USER u",
    "RUN echo $X",
    "RUN <<EOF\nbody $X\nEOF",
    "RUN <<EOF\n#!/bin/x\nEOF",
    "RUN --mount=type=cache,target=/c,from=a --mount=target=. x",
    "RUN --mount=from=b,target=$X,source=/s x",
    "RUN --mount=type=secret,id=s,env=X --mount=type=ssh x",
    "RUN --network=host x",
    "COPY f$X /d/",
    "COPY --from=a / /",
    "COPY --from=0 /x /y",
    "COPY --from=1 /x /y",
    "COPY --from=ctx x /y",
    "COPY --from=nowhere/else x /y",
    "COPY <<A <<B f /d/\n$X\nA\nb\nB",
    "ADD https://example.com/$X /d/",
    "ADD git@example.com:o/r /r",
    "ONBUILD COPY --from=c /x /x",
    "ONBUILD RUN echo $X",
    "ONBUILD ENV $X=1",
    "CMD x",
    "ENTRYPOINT [\"x\"]",
    "EXPOSE $X 80",
    "VOLUME $X",
    "SHELL [\"s\"]",
    "STOPSIGNAL $X",
];

fn image(source: &ImageSource) -> ResolvedImage {
    let is_trigger = serde_json::to_string(&source.location).unwrap().contains("trig");
    let triggers = if is_trigger { &["COPY --from=b /x /x", "RUN t"][..] } else { &[] };
    let config: ImageConfig = serde_json::from_value(serde_json::json!({
        "architecture": source.platform.architecture, "os": "linux", "config": {"OnBuild": triggers},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
    }))
    .unwrap();
    ResolvedImage { knowledge: Knowledge::Known, id: config.digest(), platform: config.platform(), config }
}

fn plan_fully(text: &str, request: &PlanRequest) -> Option<Box<Plan>> {
    let parsed = mica_parser::parse(text.as_bytes());
    let mut images = HashMap::new();
    for _ in 0..20 {
        match plan(&parsed.dockerfile, request, &images) {
            (Some(Planned::Ready(plan)), _) => return Some(plan),
            (Some(Planned::NeedImages(sources)), _) => {
                assert!(!sources.is_empty());
                images.extend(sources.into_iter().map(|source| (source.clone(), image(&source))));
            }
            (Some(Planned::NeedTime(source)), _) => panic!("nothing names a source of time, not {source:?}"),
            (None, diagnostics) => {
                assert!(
                    !diagnostics.is_empty() || parsed.has_errors(),
                    "a file without a plan has a mistake"
                );
                return None;
            }
        }
    }
    panic!("planning goes on asking for images");
}

fn slots(step: &Step) -> BTreeSet<u32> {
    match &step.op {
        Op::Copy(copy) => copy.sources.iter().map(|source| source.slot).collect(),
        Op::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                RunMountKind::Bind { slot, .. } | RunMountKind::Cache { from: Some((slot, _)), .. } => {
                    Some(*slot)
                }
                _ => None,
            })
            .collect(),
        _ => BTreeSet::new(),
    }
}

fn check_graph(graph: &BuildGraph) {
    for step in graph.steps() {
        let inputs = graph.inputs(step.id);
        assert!(inputs.iter().all(|(_, input)| *input < step.id), "inputs come before what sees them");
        let given: BTreeSet<u32> = inputs.iter().map(|(slot, _)| *slot).filter(|slot| *slot != 0).collect();
        assert_eq!(given, slots(step), "every slot of {} has one input, and every input a slot", step.name);
        assert_eq!(step.has_parent, inputs.iter().any(|(slot, _)| *slot == 0));
    }
}

fn requests() -> impl Strategy<Value = PlanRequest> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(all_stages, two, context)| {
        let mut request = PlanRequest::new(Platform::new("linux", "amd64", ""));
        request.all_stages = all_stages;
        if two {
            request.platforms =
                vec![Platform::new("linux", "amd64", ""), Platform::new("linux", "arm64", "")];
        }
        if context {
            request.named_contexts.insert("ctx".to_owned(), NamedContext::Local);
        }
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_is_planned_or_refused(lines in vec(select(&LINES[..]), 1..16), request in requests()) {
        let text = format!("ARG BASE=a\nFROM alpine AS a\n{}\n", lines.join("\n"));
        let first = plan_fully(&text, &request);
        let second = plan_fully(&text, &request);
        if let (Some(first), Some(second)) = (&first, &second) {
            check_graph(&first.graph);
            let print = |plan: &Plan| (serde_json::to_string(&plan.graph.steps().collect::<Vec<_>>()).unwrap(), format!("{:?}", plan.targets));
            prop_assert_eq!(print(first), print(second));
        }
        prop_assert_eq!(first.is_some(), second.is_some());
    }

    #[test]
    fn what_every_stage_says_is_independent_of_the_target(lines in vec(select(&LINES[9..]), 0..8)) {
        // A stage gives the same history whether it is the target or only seen by one.
        let text = format!("FROM alpine AS one\n{}\nFROM one\n", lines.join("\n"));
        let mut request = PlanRequest::new(Platform::new("linux", "amd64", ""));
        let through = plan_fully(&text, &request);
        request.target = Some("one".to_owned());
        if let (Some(direct), Some(through)) = (plan_fully(&text, &request), through) {
            let entries = |plan: &Plan| -> Vec<_> {
                let history = plan.targets[0].history.iter();
                history.map(|item| (item.created_by.clone(), item.line, item.step.is_some())).collect()
            };
            let (own, all) = (entries(&direct), entries(&through));
            prop_assert_eq!(&own[..], &all[..own.len()]);
        }
    }
}
