//! `RUN --device`: a CDI device by name.

use crate::csv::{self, CsvError};
use crate::go;
use crate::suggest::did_you_mean;

/// A device a RUN asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The qualified name, class or annotation.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// Why a `--device` value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each variant says it")]
pub enum DeviceError {
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error("invalid field `{0}`: must be a key=value pair")]
    NotAPair(String),
    #[error("device name already set to `{0}`")]
    NameAgain(String),
    #[error("invalid value for `required`: `{0}`")]
    NotABoolean(String),
    #[error("unexpected key `{key}`{}", suggestion.as_deref().map(|s| format!(", did you mean `{s}`?")).unwrap_or_default())]
    UnexpectedKey { key: String, suggestion: Option<String> },
}

impl Device {
    /// Reads the value of a `--device` flag.
    pub fn parse(value: &str) -> Result<Device, DeviceError> {
        let mut device = Device { name: String::new(), required: false };
        for field in csv::fields(value)? {
            device.apply(field)?;
        }
        Ok(device)
    }

    fn apply(&mut self, field: String) -> Result<(), DeviceError> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => self.required = true,
            ("required", Some(value)) => {
                self.required =
                    go::parse_bool(value).ok_or_else(|| DeviceError::NotABoolean(value.to_owned()))?;
            }
            ("name", Some(value)) if self.name.is_empty() => self.name = value.to_owned(),
            ("name", Some(_)) => return Err(DeviceError::NameAgain(self.name.clone())),
            _ if self.name.is_empty() => self.name = field,
            (_, None) => return Err(DeviceError::NotAPair(field)),
            (_, Some(_)) => {
                let suggestion = did_you_mean(&key, ["name", "required"]);
                return Err(DeviceError::UnexpectedKey { key, suggestion });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_values_are_read() {
        for (value, expected) in [
            ("vendor1.com/device=foo", Some(("vendor1.com/device=foo", false))),
            ("vendor1.com/device", Some(("vendor1.com/device", false))),
            ("vendor1.com/device=foo,required", Some(("vendor1.com/device=foo", true))),
            ("vendor1.com/device=foo,required=true", Some(("vendor1.com/device=foo", true))),
            ("vendor1.com/device=foo,required=0", Some(("vendor1.com/device=foo", false))),
            ("name=vendor1.com/device=foo,REQUIRED", Some(("vendor1.com/device=foo", true))),
            ("vendor1.com/device=foo,name=vendor2.com/device=bar", None),
            ("a/b=c,required=maybe", None),
            ("a/b=c,requierd=true", None),
            ("a/b=c,other", None),
            ("", None),
        ] {
            let device = Device::parse(value).ok();
            assert_eq!(
                device.as_ref().map(|device| (device.name.as_str(), device.required)),
                expected,
                "{value}"
            );
        }
    }
}
