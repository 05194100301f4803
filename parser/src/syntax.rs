//! The syntax tree of a Dockerfile.
//!
//! Everything a file says is here as written (words unexpanded, quotes kept), each with the [`Span`] of bytes in the original
//! text it came from. Expansion, ONBUILD and stage resolution belong to planning.

/// A half-open range of byte offsets into the original file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// Where.
    pub span: Span,
    /// What.
    pub value: T,
}

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at the top of the file.
    pub directives: Directives,
    /// Every instruction of the file in order, FROM and those before the first FROM included.
    pub instructions: Vec<InstructionNode>,
}

/// Parser directives (`# syntax=`, `# escape=`, `# check=`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directives {
    /// The frontend image named by `syntax`; noted, never run.
    pub syntax: Option<Spanned<String>>,
    /// The escape character.
    pub escape: Escape,
    /// The text of `check`.
    pub check: Option<Spanned<String>>,
}

/// The escape character of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// `\`
    #[default]
    Backslash,
    /// `` ` ``
    Backtick,
}

impl Escape {
    /// Returns the character itself.
    pub const fn character(self) -> char {
        match self {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        }
    }
}

/// One instruction with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstructionNode {
    /// From the keyword to the last byte, heredoc bodies included.
    pub span: Span,
    /// 1-based first line.
    pub start_line: u32,
    /// 1-based last line, heredoc bodies included.
    pub end_line: u32,
    /// The keyword as written.
    pub keyword: Spanned<String>,
    /// Flags as written, in order (`--from=build`).
    pub flags: Vec<Spanned<String>>,
    /// The instruction's text after keyword and flags with continuations joined as the reference joins them (for history).
    pub original: String,
    /// The whole line, keyword and flags included, joined the same way.
    pub line: String,
    /// Blank lines between continuation lines, newlines included.
    pub blank_lines: Vec<Span>,
    /// Comment lines directly above (for outlines), without `#`.
    pub comments: Vec<Spanned<String>>,
    /// Every heredoc the line opens, in order; those of an ONBUILD are its trigger's.
    pub heredocs: Vec<Heredoc>,
    /// What it says.
    pub instruction: Instruction,
}

/// The 18 instructions, and what could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the instruction of that name in the Dockerfile reference")]
pub enum Instruction {
    Add(AddInstruction),
    Arg(ArgInstruction),
    Cmd(CommandLine),
    Copy(CopyInstruction),
    Entrypoint(CommandLine),
    Env(Vec<KeyValue>),
    Expose(Vec<Spanned<String>>),
    From(FromInstruction),
    Healthcheck(HealthcheckInstruction),
    Label(Vec<KeyValue>),
    Maintainer(Spanned<String>),
    Onbuild(Box<InstructionNode>),
    Run(RunInstruction),
    Shell(Vec<Spanned<String>>),
    Stopsignal(Spanned<String>),
    User(Spanned<String>),
    Volume(Vec<Spanned<String>>),
    Workdir(Spanned<String>),
    /// An instruction with a mistake; its diagnostic has been reported.
    Invalid,
}

impl InstructionNode {
    /// Returns the words that follow ONBUILD as the image config keeps them, heredocs included; `None` for other instructions.
    pub fn trigger_expression(&self) -> Option<String> {
        if !self.keyword.value.eq_ignore_ascii_case("onbuild") {
            return None;
        }
        let mut expression = self.line.trim_start()["onbuild".len()..].trim_start().to_owned();
        for heredoc in &self.heredocs {
            expression.extend(["\n", &heredoc.raw_body, &heredoc.name]);
        }
        Some(expression)
    }
}

/// FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// `--platform`, unexpanded.
    pub platform: Option<Spanned<String>>,
    /// Image, stage, `scratch` or named context, unexpanded.
    pub image: Spanned<String>,
    /// The `AS` name as written.
    pub name: Option<Spanned<String>>,
    /// The `AS` keyword as written.
    pub as_keyword: Option<Spanned<String>>,
}

/// ARG: one or more `name[=default]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgInstruction {
    /// The declarations in order.
    pub arguments: Vec<ArgDeclaration>,
}

/// One `name[=default]` of an ARG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, unexpanded.
    pub name: Spanned<String>,
    /// The default, unexpanded; `None` when there is no `=`.
    pub default: Option<Spanned<String>>,
}

/// One pair of ENV or LABEL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, unexpanded, quotes kept.
    pub key: Spanned<String>,
    /// The value, unexpanded, quotes kept.
    pub value: Spanned<String>,
    /// Whether it was written with `=`; otherwise it is the legacy `ENV name value` form.
    pub equals: bool,
}

/// The command of RUN, CMD, ENTRYPOINT or HEALTHCHECK CMD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// Shell form: one string for the shell, continuations joined.
    Shell(Spanned<String>),
    /// Exec form: the strings of the JSON array.
    Exec(Spanned<Vec<String>>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// The command as written; with heredocs the line that opens them.
    pub command: CommandLine,
    /// Heredocs of the instruction in order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` values as written; read with [`crate::mount::Mount::parse`] after expansion.
    pub mounts: Vec<Spanned<String>>,
    /// `--network`.
    pub network: Option<Spanned<String>>,
    /// `--security`.
    pub security: Option<Spanned<String>>,
    /// `--device` values.
    pub devices: Vec<Spanned<String>>,
}

/// COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// `--from` as written.
    pub from: Option<Spanned<String>>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// What COPY and ADD share.
    pub transfer: Transfer,
}

/// ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddInstruction {
    /// `--link`.
    pub link: bool,
    /// `--checksum`, unexpanded.
    pub checksum: Option<Spanned<String>>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
    /// What COPY and ADD share.
    pub transfer: Transfer,
}

/// Sources, destination and the flags COPY and ADD share; all words unexpanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// `--chown`.
    pub chown: Option<Spanned<String>>,
    /// `--chmod`.
    pub chmod: Option<Spanned<String>>,
    /// `--exclude`, in order.
    pub excludes: Vec<Spanned<String>>,
    /// Source words, heredoc openers left out.
    pub sources: Vec<Spanned<String>>,
    /// Heredoc sources.
    pub heredocs: Vec<Heredoc>,
    /// The destination word.
    pub destination: Spanned<String>,
    /// Whether the words came as a JSON array (then they have no quotes to remove, but are still expanded).
    pub json: bool,
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckInstruction {
    /// `HEALTHCHECK NONE`
    None,
    /// `HEALTHCHECK [options] CMD …`
    Command {
        /// The command.
        command: CommandLine,
        /// `--interval`, in nanoseconds; 0 when absent.
        interval: i64,
        /// `--timeout`, in nanoseconds.
        timeout: i64,
        /// `--start-period`, in nanoseconds.
        start_period: i64,
        /// `--start-interval`, in nanoseconds.
        start_interval: i64,
        /// `--retries`.
        retries: i64,
    },
}

/// One heredoc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The opener (`<<EOF`).
    pub span: Span,
    /// The word without quotes.
    pub name: String,
    /// The file descriptor before `<<`, 0 when absent.
    pub fd: u32,
    /// Whether the body is expanded (the word had no quotes).
    pub expand: bool,
    /// Whether it is `<<-` (leading tabs of the body removed).
    pub chomp: bool,
    /// The body as it is used (tabs removed under `<<-`).
    pub body: Spanned<String>,
    /// The body as it is written.
    pub raw_body: String,
}
