//! When a failed request is sent again, and after what pause.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::{TransportError, is_transient};

/// How often and how soon requests are sent again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often a request is sent in all.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause, also when a server asks for more.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, first_pause: Duration::from_millis(250), longest_pause: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// Returns the pause before the next attempt after `failures` earlier ones, `None` if it was the last.
    pub(crate) fn pause(&self, failures: u32) -> Option<Duration> {
        (failures + 1 < self.attempts)
            .then(|| self.first_pause.saturating_mul(1 << failures.min(16)).min(self.longest_pause))
    }

    /// Decides after an answer: `None` means it stands.
    pub(crate) fn after_response(&self, failures: u32, response: &Response) -> Option<Duration> {
        if !is_transient(response.status()) {
            return None;
        }
        let pause = self.pause(failures)?;
        Some(
            requested_pause(response.headers())
                .map_or(pause, |asked| asked.max(pause).min(self.longest_pause)),
        )
    }

    /// Decides after no answer: `None` means there is no point in going on.
    pub(crate) fn after_error(&self, failures: u32, error: &TransportError) -> Option<Duration> {
        let attempts = match error {
            TransportError::Unreachable { reason, .. } if reason.is_lasting() => return None,
            // A server that is just being started deserves a second try, a wrong name does not deserve five.
            TransportError::Unreachable { .. } => self.attempts.min(2),
            TransportError::Broken { .. } => self.attempts,
            _ => return None,
        };
        Self { attempts, ..self.clone() }.pause(failures)
    }
}

/// Reads `Retry-After`, in seconds or as a date; a date is compared with the server's own clock.
fn requested_pause(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    then.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let policy = RetryPolicy {
            attempts: 5,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(3),
        };
        let pauses: Vec<Option<u64>> =
            (0..5).map(|failures| policy.pause(failures).map(|pause| pause.as_secs())).collect();
        assert_eq!(pauses, [Some(1), Some(2), Some(3), Some(3), None]);
    }

    #[test]
    fn servers_ask_for_pauses_in_two_ways() {
        let pause = |pairs: &[(reqwest::header::HeaderName, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            requested_pause(&headers).map(|pause| pause.as_secs())
        };
        assert_eq!(pause(&[(RETRY_AFTER, "7")]), Some(7));
        let then = (RETRY_AFTER, "Wed, 21 Oct 2015 07:28:10 GMT");
        assert_eq!(pause(&[then.clone(), (DATE, "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(10));
        assert_eq!(pause(&[then]), None);
        assert_eq!(pause(&[(RETRY_AFTER, "soon")]), None);
        assert_eq!(pause(&[]), None);
    }
}
