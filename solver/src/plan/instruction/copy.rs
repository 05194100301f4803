//! COPY and ADD.

use mica_parser::syntax::{AddInstruction, CopyInstruction, Heredoc, Spanned, Transfer};
use mica_parser::words::expand_body;

use super::copy_source::{SourceWord, check_digest, check_mode, git_source};
use super::git_url::GitUrl;
use crate::graph::{CopyOp, CopySource, HttpSource, Op, StepId, Unpack};
use crate::plan::dispatch::StageBuilder;
use crate::plan::draft::Origin;
use crate::plan::paths;
use crate::plan::report::{OrProblem, Problem, problem};
use crate::plan::stages::{Command, StageIndex};

/// What ADD can do that COPY cannot.
#[derive(Debug, Clone, Default)]
struct AddOptions {
    keep_git_dir: Option<bool>,
    checksum: Option<String>,
    unpack: Option<bool>,
}

/// A COPY or ADD with its words expanded.
struct Transferred<'c> {
    command: &'c Command<'c>,
    keyword: &'static str,
    /// The options of an ADD.
    add: Option<AddOptions>,
    from: Option<StageIndex>,
    link: bool,
    parents: bool,
    chown: Option<String>,
    chmod: Option<String>,
    excludes: Vec<String>,
    sources: Vec<Spanned<String>>,
    /// Files written in the instruction: name and content.
    files: Vec<(String, String)>,
    destination: String,
}

impl Transferred<'_> {
    fn problem(&self, code: &'static str, source: &Spanned<String>, message: String) -> Problem {
        problem(code, self.command.place(source.span), message)
    }

    fn created_by(&self) -> String {
        let mut words = vec![self.keyword.to_owned()];
        words.extend(self.parents.then(|| "--parents".to_owned()));
        words.extend(self.chown.as_ref().map(|chown| format!("--chown={chown}")));
        words.extend(self.chmod.as_ref().map(|chmod| format!("--chmod={chmod}")));
        words.extend(self.sources.iter().map(|source| source.value.clone()));
        words.extend(self.files.iter().map(|(name, _)| format!("<<{name}")));
        words.extend([self.destination.clone(), "# buildkit".to_owned()]);
        words.join(" ")
    }

    /// A checksum is of one remote source.
    fn check_checksum(&self, words: &[SourceWord]) -> Result<(), Problem> {
        let Some(checksum) = self.add.as_ref().and_then(|add| add.checksum.as_ref()) else { return Ok(()) };
        let refuse = |message: String| {
            Err(problem("bad-checksum", self.command.place(self.command.node.span), message))
        };
        match words {
            [SourceWord::Http { .. }] => check_digest(Some(checksum)).or_else(refuse),
            [SourceWord::Git(_)] => Ok(()),
            [SourceWord::Path] => refuse("checksum requires an http(s) or git source".to_owned()),
            _ => refuse("checksum can't be specified for multiple sources".to_owned()),
        }
    }
}

/// The sources of an operation while they are collected.
#[derive(Default)]
struct Slots {
    inputs: Vec<(u32, StepId)>,
    sources: Vec<CopySource>,
}

impl Slots {
    fn add(&mut self, step: StepId, path: String, unpack: Unpack) {
        let known = self.inputs.iter().find(|(_, input)| *input == step).map(|(slot, _)| *slot);
        let slot = known.unwrap_or_else(|| {
            let slot =
                u32::try_from(self.inputs.len() + 1).expect("an instruction has fewer than 2^32 sources");
            self.inputs.push((slot, step));
            slot
        });
        self.sources.push(CopySource { slot, path, unpack });
    }
}

impl StageBuilder<'_, '_> {
    pub(super) fn copy(&mut self, command: &Command<'_>, copy: &CopyInstruction) -> Result<(), Problem> {
        let from = command.sources.first().copied().flatten();
        if let Some(index) = from.filter(|index| self.states[index.0].is_none()) {
            return Err(self.forward_reference(command, copy, index));
        }
        let transferred = self.expand_transfer(command, &copy.transfer, "COPY", None)?;
        let transferred = Transferred { from, link: copy.link, parents: copy.parents, ..transferred };
        self.transfer(&transferred)
    }

    pub(super) fn add(&mut self, command: &Command<'_>, add: &AddInstruction) -> Result<(), Problem> {
        let checksum = self.expand_option(command, add.checksum.as_ref())?;
        let options = AddOptions { keep_git_dir: add.keep_git_dir, checksum, unpack: add.unpack };
        let transferred = self.expand_transfer(command, &add.transfer, "ADD", Some(options))?;
        self.transfer(&Transferred { link: add.link, ..transferred })
    }

    fn forward_reference(
        &self,
        command: &Command<'_>,
        copy: &CopyInstruction,
        source: StageIndex,
    ) -> Problem {
        let (here, there) = (&self.plan.stages.get(self.index).label, &self.plan.stages.get(source).label);
        let span = command.place(copy.from.as_ref().map_or(command.node.span, |from| from.span));
        let message = format!("cannot copy from stage `{there}`: it must be defined before stage `{here}`");
        let found =
            problem("forward-reference", span, message).with_secondary(self.place_of(source), "defined here");
        Box::new(found.with_help("move that stage up"))
    }

    fn expand_transfer<'c>(
        &mut self,
        command: &'c Command<'c>,
        transfer: &Transfer,
        keyword: &'static str,
        add: Option<AddOptions>,
    ) -> Result<Transferred<'c>, Problem> {
        let chown = self.expand_option(command, transfer.chown.as_ref())?;
        let chmod = self.expand_option(command, transfer.chmod.as_ref())?;
        if let (Some(mode), Some(word)) = (&chmod, &transfer.chmod) {
            check_mode(mode).or_problem("bad-chmod", command.place(word.span), keyword)?;
        }
        let mut sources = Vec::with_capacity(transfer.sources.len());
        for word in &transfer.sources {
            sources.push(Spanned { span: word.span, value: self.expand(command, word)? });
        }
        let destination = self.expand(command, &transfer.destination)?;
        let mut files = Vec::with_capacity(transfer.heredocs.len());
        for heredoc in &transfer.heredocs {
            files.push((heredoc.name.clone(), self.body(command, heredoc)?));
        }
        let excludes = transfer.excludes.iter().map(|word| word.value.clone()).collect();
        let (from, link, parents) = (None, false, false);
        Ok(Transferred {
            command,
            keyword,
            add,
            from,
            link,
            parents,
            chown,
            chmod,
            excludes,
            sources,
            files,
            destination,
        })
    }

    fn body(&mut self, command: &Command<'_>, heredoc: &Heredoc) -> Result<String, Problem> {
        if !heredoc.expand {
            return Ok(heredoc.body.value.clone());
        }
        let doing = format_args!("cannot expand heredoc `{}`", heredoc.name);
        let span = command.place(heredoc.body.span);
        let expansion =
            expand_body(&heredoc.body.value, &self.state.env).or_problem("bad-substitution", span, doing)?;
        self.warn_unset(command, heredoc.body.span, &expansion.unmatched);
        Ok(expansion.text)
    }

    fn transfer(&mut self, transferred: &Transferred<'_>) -> Result<(), Problem> {
        let command = transferred.command;
        let mut words = Vec::with_capacity(transferred.sources.len());
        for source in &transferred.sources {
            let span = command.place(source.span);
            words.push(SourceWord::parse(&source.value).or_problem("bad-source", span, &source.value)?);
        }
        transferred.check_checksum(&words)?;
        let title = self.expanded_title(command);
        let mut slots = Slots::default();
        for (source, word) in transferred.sources.iter().zip(&words) {
            match word {
                SourceWord::Path => self.take_path(transferred, source, &mut slots),
                SourceWord::Http { filename } => {
                    self.take_download(transferred, source, filename, &title, &mut slots)?
                }
                SourceWord::Git(url) => self.take_checkout(transferred, source, url, &title, &mut slots)?,
            }
        }
        for file in &transferred.files {
            let step = self.draft.inline(&self.state.platform, vec![file.clone()]);
            slots.add(step, format!("/{}", file.0), Unpack::No);
        }
        let op = CopyOp {
            sources: slots.sources,
            destination: paths::resolve_destination(&self.state.cwd, &transferred.destination),
            chown: transferred.chown.clone(),
            chmod: transferred.chmod.clone(),
            // The reference builder links only where no mode has to be set.
            link: transferred.link && transferred.chmod.is_none(),
            parents: transferred.parents,
            excludes: transferred.excludes.clone(),
        };
        let step = self.add_step(command, title, Op::Copy(op), slots.inputs);
        self.record(command, transferred.created_by(), Some(step));
        Ok(())
    }

    fn take_path(&mut self, transferred: &Transferred<'_>, source: &Spanned<String>, slots: &mut Slots) {
        let unpack = match &transferred.add {
            Some(add) if add.unpack != Some(false) => Unpack::Archive,
            _ => Unpack::No,
        };
        if transferred.from.is_none() {
            self.check_ignored(transferred, source);
        }
        let step = self.files_of(transferred.from, &source.value).expect("sources were checked");
        let path =
            if transferred.parents { source.value.clone() } else { paths::resolve("/", &source.value) };
        slots.add(step, path, unpack);
    }

    fn check_ignored(&mut self, transferred: &Transferred<'_>, source: &Spanned<String>) {
        let Some(ignored) = &self.plan.request.ignore else { return };
        let path = paths::clean(&source.value);
        let inside = if path == "/" { "." } else { path.trim_start_matches('/') };
        if ignored.contains(inside) {
            let verb = if transferred.add.is_some() { "Add" } else { "Copy" };
            let span = transferred.command.place(source.span);
            self.report.for_node(&transferred.command.node).copy_ignored_file(span, verb, &path);
        }
    }

    fn take_download(
        &mut self,
        transferred: &Transferred<'_>,
        source: &Spanned<String>,
        filename: &str,
        title: &str,
        slots: &mut Slots,
    ) -> Result<(), Problem> {
        let Some(add) = &transferred.add else {
            let message = format!("source can't be a URL for COPY: `{}`", source.value);
            return Err(Box::new(transferred.problem("remote-copy", source, message).with_help("use ADD")));
        };
        let unpack = if add.unpack == Some(true) { Unpack::Archive } else { Unpack::No };
        let op = HttpSource {
            url: source.value.clone(),
            checksum: add.checksum.clone(),
            filename: filename.to_owned(),
        };
        let step = self.add_source(transferred.command, title, Op::Http(op));
        slots.add(step, filename.to_owned(), unpack);
        Ok(())
    }

    fn take_checkout(
        &mut self,
        transferred: &Transferred<'_>,
        source: &Spanned<String>,
        url: &GitUrl,
        title: &str,
        slots: &mut Slots,
    ) -> Result<(), Problem> {
        let Some(add) = &transferred.add else {
            let message = format!("source can't be a git ref for COPY: `{}`", source.value);
            return Err(Box::new(transferred.problem("remote-copy", source, message).with_help("use ADD")));
        };
        if let (Some(flag), Some(query)) = (add.keep_git_dir, url.keep_git_dir)
            && flag != query
        {
            let message = format!("--keep-git-dir={flag} contradicts `{}`", source.value);
            return Err(transferred.problem("bad-source", source, message));
        }
        if let (Some(flag), Some(query)) = (&add.checksum, &url.checksum)
            && flag != query
        {
            return Err(transferred.problem(
                "bad-checksum",
                source,
                format!("checksum mismatch: `{flag}` and `{query}`"),
            ));
        }
        let op = git_source(source, url, add.keep_git_dir, add.checksum.clone());
        let step = self.add_source(transferred.command, title, Op::Git(op));
        slots.add(step, "/".to_owned(), Unpack::No);
        Ok(())
    }

    fn add_source(&mut self, command: &Command<'_>, title: &str, op: Op) -> StepId {
        let in_file = command.elsewhere.is_none();
        let origin = Origin {
            title: title.to_owned(),
            stage: Some(self.plan.stage_text(self.index)),
            span: in_file.then_some(command.node.span),
            line: in_file.then_some(command.node.start_line),
        };
        self.draft.add(origin, &self.state.platform, false, op, Vec::new())
    }
}
