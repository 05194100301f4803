//! Where a file asks for an image that cannot be had.

use mica_parser::diagnostic::{Diagnostic, RuleCode, did_you_mean};
use mica_parser::syntax::{Dockerfile, Span};

use super::base::Foundation;
use super::planner::survey_all;
use super::report::Report;
use super::request::{BaseImages, PlanRequest};
use super::stages::{Stage, StageTable};
use crate::graph::{ImageLocation, ImageSource};

/// Makes the diagnostic for an image that [`super::plan`] asked for and that could not be resolved, `reason` being why.
///
/// It points to the FROM, `--from` or mount that names the image; a name that is nearly a stage's says so.
pub fn unresolved_image(
    file: &Dockerfile,
    request: &PlanRequest,
    images: &dyn BaseImages,
    source: &ImageSource,
    reason: &str,
) -> Diagnostic {
    let mut ignored = Report::new(file, &request.build_args);
    let plans = survey_all(file, request, images, &mut ignored);
    for (target, mut plan) in plans {
        plan.resolve(target, &mut ignored);
        let asks = |index| matches!(plan.foundation(index), Foundation::Image(asked, _) if *asked == *source);
        if let Some((_, stage)) = plan.stages.iter().find(|(index, _)| asks(*index)) {
            return at_stage(stage, &plan.stages, source, reason);
        }
    }
    diagnostic(source, reason, Span::default())
}

fn at_stage(stage: &Stage<'_>, stages: &StageTable<'_>, source: &ImageSource, reason: &str) -> Diagnostic {
    let found = diagnostic(source, reason, stage.span);
    let written = if stage.from.is_some() { name_of(source) } else { stage.label.clone() };
    let Some(nearest) = did_you_mean(&written, stages.names()) else { return found };
    let mut found = found.with_help(format!("a stage with a similar name exists: `{nearest}`"));
    found.primary.text = "not a stage, so taken for an image".to_owned();
    if stage.from.is_none() { found.with_suggestion(stage.span, nearest) } else { found }
}

fn diagnostic(source: &ImageSource, reason: &str, span: Span) -> Diagnostic {
    let message = format!("cannot use image `{}`: {reason}", name_of(source));
    Diagnostic::error(RuleCode::new("unresolved-image"), message, span, "")
}

/// Returns the short name of an image.
fn name_of(source: &ImageSource) -> String {
    match &source.location {
        ImageLocation::Reference(reference) => {
            let name = reference.familiar();
            name.strip_suffix(":latest").unwrap_or(&name).to_owned()
        }
        ImageLocation::OciLayout(text) => format!("oci-layout://{text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use mica_image::{Platform, Reference};

    use super::*;

    fn blame(text: &str, image: &str) -> Diagnostic {
        let parsed = mica_parser::parse(text.as_bytes());
        let request = PlanRequest::new(Platform::new("linux", "amd64", ""));
        let location = ImageLocation::Reference(Reference::parse(image).unwrap().with_default_tag());
        let source = ImageSource { location, platform: Platform::new("linux", "amd64", "") };
        unresolved_image(&parsed.dockerfile, &request, &HashMap::new(), &source, "not found")
    }

    #[test]
    fn the_word_that_names_the_image_is_shown() {
        let text = "FROM alpine AS build\nFROM debian:12\nCOPY --from=biuld /a /b\n";
        let found = blame(text, "biuld");
        assert_eq!(found.message, "cannot use image `biuld`: not found");
        assert_eq!(found.help.as_deref(), Some("a stage with a similar name exists: `build`"));
        let word = |diagnostic: &Diagnostic| {
            &text[diagnostic.primary.span.start as usize..diagnostic.primary.span.end as usize]
        };
        assert_eq!(word(&found), "biuld");
        let found = blame(text, "debian:12");
        assert_eq!((word(&found), found.help), ("debian:12", None));
    }
}
