//! EXPOSE: `[address:][host port:]port[-port][/protocol]`.

use std::net::IpAddr;

use mica_parser::syntax::Spanned;
use mica_parser::words::expand_words;

use crate::plan::dispatch::StageBuilder;
use crate::plan::go;
use crate::plan::report::{OrProblem, Problem};
use crate::plan::stages::Command;

impl StageBuilder<'_, '_> {
    pub(super) fn expose(&mut self, command: &Command<'_>, words: &[Spanned<String>]) -> Result<(), Problem> {
        let mut sorted: Vec<&Spanned<String>> = words.iter().collect();
        sorted.sort_by(|one, other| one.value.cmp(&other.value));
        let mut ports = Vec::new();
        for word in sorted {
            let span = command.place(word.span);
            let expansion = expand_words(&word.value, self.plan.escape, &self.state.env).or_problem(
                "bad-substitution",
                span,
                format_args!("cannot expand `{}`", word.value),
            )?;
            for text in &expansion.words {
                if word.value.contains('$') {
                    self.report.for_node(&command.node).port(span, text);
                }
                ports.extend(parse(text).or_problem("bad-port", span, format_args!("EXPOSE `{text}`"))?);
            }
        }
        self.record(command, format!("EXPOSE {}", go::list(&ports)), None);
        self.state.image.config.exposed_ports.extend(ports);
        Ok(())
    }
}

/// Returns the ports a word of EXPOSE stands for, each as `80/tcp`. Address and host port are checked and otherwise ignored.
fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut parts = text.rsplitn(3, ':');
    let (container, host, address) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err("no port specified".to_owned());
    }
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err(format!("invalid protocol `{protocol}`, expected tcp, udp or sctp")),
    };
    check_address(address.unwrap_or_default())?;
    let (first, last) =
        parse_range(range).map_err(|error| format!("invalid container port `{range}`: {error}"))?;
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        let (from, to) = parse_range(host).map_err(|error| format!("invalid host port `{host}`: {error}"))?;
        if first != last && to - from != last - first {
            return Err(format!("host and container ports differ in number: `{host}` and `{range}`"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn check_address(text: &str) -> Result<(), String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if text.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address `{text}`"))
}

fn parse_range(text: &str) -> Result<(u16, u16), String> {
    let Some((first, last)) = text.split_once('-').filter(|(first, last)| first != last) else {
        let port = parse_port(text.split_once('-').map_or(text, |(first, _)| first))?;
        return Ok((port, port));
    };
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    if last < first {
        return Err("the range ends before it starts".to_owned());
    }
    Ok((first, last))
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number".to_owned());
    }
    digits.parse().map_err(|_| "out of range (0-65535)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_ports() {
        let cases: [(&str, Option<&[&str]>); 22] = [
            ("80", Some(&["80/tcp"])),
            ("53/UDP", Some(&["53/udp"])),
            ("9/sctp", Some(&["9/sctp"])),
            ("80/", Some(&["80/tcp"])),
            ("8000-8002", Some(&["8000/tcp", "8001/tcp", "8002/tcp"])),
            ("7-7/udp", Some(&["7/udp"])),
            ("0", Some(&["0/tcp"])),
            ("8080:80", Some(&["80/tcp"])),
            ("127.0.0.1:8080:80", Some(&["80/tcp"])),
            ("[::1]:8080:80", Some(&["80/tcp"])),
            ("::1:8080:80", Some(&["80/tcp"])),
            ("8000-8010:80", Some(&["80/tcp"])),
            (":80", Some(&["80/tcp"])),
            ("8000-8010:80-81", None),
            ("", None),
            ("/tcp", None),
            ("http", None),
            ("80/http", None),
            ("65536", None),
            ("9-8", None),
            ("80-", None),
            ("1.2.3:8080:80", None),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|ports| ports.iter().map(|port| (*port).to_owned()).collect::<Vec<_>>());
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
