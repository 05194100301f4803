//! Following redirects: bounded, and without taking credentials along to another origin.

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};

use super::error::display_url;
use super::{Outgoing, TransportError, Trust};

const REDIRECTS_MAX: usize = 10;

/// One request on the way to the answer.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) method: Method,
    pub(super) same_origin: bool,
    pub(super) trust: Trust,
    count: usize,
}

impl Hop {
    pub(super) fn first(outgoing: &Outgoing) -> Self {
        Self {
            url: outgoing.url.clone(),
            method: outgoing.method.clone(),
            same_origin: true,
            trust: outgoing.trust,
            count: 0,
        }
    }
}

/// Returns where to go from a response, `None` if it is the answer.
pub(super) fn next_hop(
    outgoing: &Outgoing,
    hop: &Hop,
    response: &Response,
) -> Result<Option<Hop>, TransportError> {
    let status = response.status();
    let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else { return Ok(None) };
    let from = || display_url(&hop.url);
    if hop.count == REDIRECTS_MAX {
        return Err(TransportError::TooManyRedirects {
            url: display_url(&outgoing.url),
            limit: REDIRECTS_MAX,
        });
    }
    let url = location
        .to_str()
        .ok()
        .and_then(|location| hop.url.join(location).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| TransportError::BadRedirect { url: from() })?;
    // Once a request has left its origin it does not get its credentials back.
    let same_origin = hop.same_origin && url.origin() == outgoing.url.origin();
    Ok(Some(Hop {
        method: method_after(status, &hop.method),
        trust: if same_origin { outgoing.trust } else { Trust::Strict },
        same_origin,
        url,
        count: hop.count + 1,
    }))
}

fn method_after(status: StatusCode, method: &Method) -> Method {
    let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if keeps || *method == Method::HEAD { method.clone() } else { Method::GET }
}
