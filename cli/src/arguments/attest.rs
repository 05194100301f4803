//! `--provenance`, `--sbom` and `--attest`: what is to be said of an image.

use mica_parser::go::parse_bool;

use super::build::BuildArguments;
use super::csv;
use super::error::ArgumentError;
use crate::engine::request::{Attest, Output, ProvenanceMode, ProvenanceOptions};

/// Reads the flags; a later one wins over an earlier one of the same type, and `--attest` comes first.
pub(super) fn attest(arguments: &BuildArguments, outputs: &[Output]) -> Result<Attest, ArgumentError> {
    let mut attest = Attest::default();
    for word in arguments.output.attest.iter().filter(|word| !word.is_empty()) {
        read("--attest", word, None, &mut attest)?;
    }
    for word in arguments.output.provenance.iter().filter(|word| !word.is_empty()) {
        read("--provenance", word, Some("provenance"), &mut attest)?;
    }
    for word in arguments.output.sbom.iter().filter(|word| !word.is_empty()) {
        read("--sbom", word, Some("sbom"), &mut attest)?;
    }
    if attest.is_asked() {
        check(&attest, outputs)?;
    }
    Ok(attest)
}

fn read(
    flag: &'static str,
    word: &str,
    kind: Option<&str>,
    attest: &mut Attest,
) -> Result<(), ArgumentError> {
    let asked = Asked::read(flag, word, kind)?;
    let invalid = |why: String| ArgumentError::value(flag, word, why);
    match (asked.kind.as_deref(), asked.of_provenance) {
        (Some("provenance"), _) => attest.provenance = asked.wanted.then_some(asked.options),
        (Some("sbom"), None) => attest.sbom = asked.wanted,
        (Some("sbom"), Some(key)) => return Err(invalid(format!("there is no key `{key}`"))),
        (Some(other), _) => {
            return Err(invalid(format!("there is no attestation `{other}`"))
                .with_hint("the types are provenance and sbom"));
        }
        (None, _) => return Err(invalid("the type is missing".to_owned())),
    }
    Ok(())
}

/// One value of a flag.
struct Asked {
    kind: Option<String>,
    wanted: bool,
    options: ProvenanceOptions,
    /// A key that only provenance has.
    of_provenance: Option<String>,
}

impl Asked {
    fn read(flag: &'static str, word: &str, kind: Option<&str>) -> Result<Self, ArgumentError> {
        let invalid = |why: String| ArgumentError::value(flag, word, why);
        let mut asked = Self {
            kind: kind.map(str::to_owned),
            wanted: true,
            options: ProvenanceOptions::default(),
            of_provenance: None,
        };
        for field in csv::fields(word).map_err(|error| invalid(error.to_string()))? {
            let pair = csv::key_value(&field);
            match pair.as_ref().map(|(key, value)| (key.as_str(), *value)) {
                Some(("type", value)) if flag == "--attest" => asked.kind = Some(value.to_owned()),
                Some((key, value)) => asked.take(key, value).map_err(invalid)?,
                None => match parse_bool(&field).filter(|_| flag != "--attest") {
                    Some(on) => asked.wanted = on,
                    None => return Err(invalid(format!("`{field}` is not of the form key=value"))),
                },
            }
        }
        Ok(asked)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match (key, value) {
            ("disabled", value) => {
                self.wanted = !parse_bool(value).ok_or("`disabled` is true or false")?;
            }
            ("mode", "min") => self.options.mode = ProvenanceMode::Min,
            ("mode", "max") => self.options.mode = ProvenanceMode::Max,
            ("mode", _) => return Err(format!("there is no mode `{value}`: it is min or max")),
            ("version", "v1") => {}
            ("version", _) => return Err("mica writes version v1 of SLSA provenance only".to_owned()),
            ("builder-id", _) => {
                self.options.builder_id = Some(value.to_owned()).filter(|id| !id.is_empty());
            }
            ("generator", _) => return Err("mica lists packages itself and runs no generator".to_owned()),
            _ => return Err(format!("there is no key `{key}`")),
        }
        if key != "disabled" {
            self.of_provenance = Some(key.to_owned());
        }
        Ok(())
    }
}

/// Statements go out beside an image, in an index of OCI's.
fn check(attest: &Attest, outputs: &[Output]) -> Result<(), ArgumentError> {
    let flag = if attest.provenance.is_some() { "--provenance" } else { "--sbom" };
    let refused = |why: &str| ArgumentError::value(flag, "true", why.to_owned());
    let mut holding = outputs.iter().filter(|output| output.kind.has_statements()).peekable();
    if holding.peek().is_none() {
        return Err(refused("no image is written that it could be attached to")
            .with_hint("add `--push`, or `-o type=oci,dest=FILE`"));
    }
    let docker = |output: &Output| output.packing.dialect == Some(mica_image::Dialect::Docker);
    if holding.any(docker) {
        return Err(refused("docker's media types have no place for it: leave out `oci-mediatypes=false`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flag: &'static str, word: &str) -> Result<Attest, String> {
        let mut attest = Attest::default();
        let kind = flag.strip_prefix("--").filter(|kind| *kind != "attest");
        read(flag, word, kind, &mut attest).map(|()| attest).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_read_as_the_reference_reads_them() {
        let mode = |attest: Attest| attest.provenance.map(|options| options.mode);
        assert_eq!(parse("--provenance", "true").map(mode), Ok(Some(ProvenanceMode::Max)));
        assert_eq!(parse("--provenance", "false").map(mode), Ok(None));
        assert_eq!(parse("--provenance", "mode=min").map(mode), Ok(Some(ProvenanceMode::Min)));
        assert_eq!(parse("--attest", "type=provenance,mode=max").map(mode), Ok(Some(ProvenanceMode::Max)));
        assert_eq!(parse("--attest", "type=provenance,disabled=true").map(mode), Ok(None));
        let id =
            parse("--provenance", "builder-id=https://ci,mode=min").unwrap().provenance.unwrap().builder_id;
        assert_eq!(id.as_deref(), Some("https://ci"));
        assert!(parse("--sbom", "true").unwrap().sbom);
        assert!(parse("--attest", "type=sbom").unwrap().sbom);
        for (flag, bad) in [
            ("--sbom", "generator=x"),
            ("--sbom", "mode=min"),
            ("--provenance", "mode=all"),
            ("--provenance", "version=v0.2"),
            ("--provenance", "x=y"),
            ("--attest", "provenance"),
            ("--attest", "type=other"),
            ("--attest", "mode=min"),
        ] {
            assert!(parse(flag, bad).is_err(), "{flag} {bad}");
        }
    }
}
