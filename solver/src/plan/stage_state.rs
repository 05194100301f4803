//! A stage at one point: its tree so far, its configuration, the variables in effect.

use mica_image::{ImageConfig, Platform};

use super::environment::Environment;
use super::outcome::Setting;
use super::outline::Captured;
use super::request::Knowledge;
use crate::graph::{HistoryItem, StepId};

/// What files a stage has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// None.
    Empty,
    /// The tree a step ends with.
    Tree(StepId),
    /// Those of a named context that is a directory.
    Context(String),
    /// Those of a download or checkout.
    Files(StepId),
}

/// A stage at one point.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    pub(super) content: Content,
    pub(super) image: ImageConfig,
    /// The history entries of this stage, those of the stages below it left out.
    pub(super) history: Vec<HistoryItem>,
    /// The history entries since the last step, those of the stages below included.
    pub(super) since_step: Vec<HistoryItem>,
    pub(super) env: Environment,
    /// Working directory, absolute.
    pub(super) cwd: String,
    pub(super) user: String,
    pub(super) platform: Platform,
    /// Every ARG met, in order, with the value it had.
    pub(super) build_args: Vec<(String, Option<String>)>,
    /// Whether a WORKDIR of this file is in effect.
    pub(super) workdir_set: bool,
    /// Whether it is known which variables the base sets.
    pub(super) base: Knowledge,
    /// What an outline tells of the stage.
    pub(super) captured: Captured,
}

impl StageState {
    /// Returns a stage of these files that has done nothing yet.
    pub(super) fn new(content: Content, image: ImageConfig, platform: Platform) -> Self {
        Self {
            content,
            image,
            history: Vec::new(),
            since_step: Vec::new(),
            env: Environment::default(),
            cwd: "/".to_owned(),
            user: String::new(),
            platform,
            build_args: Vec::new(),
            workdir_set: false,
            base: Knowledge::Known,
            captured: Captured::default(),
        }
    }

    /// Returns what a stage built on this one starts with.
    pub(super) fn child(&self) -> Self {
        let mut image = self.image.clone();
        // Triggers are for the next stage only, and were put in front of its commands.
        image.config.on_build.clear();
        Self {
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            user: self.user.clone(),
            build_args: self.build_args.clone(),
            workdir_set: self.workdir_set,
            base: self.base,
            since_step: self.since_step.clone(),
            ..Self::new(self.content.clone(), image, self.platform.clone())
        }
    }
}

impl StageState {
    /// Returns what the stage is like now; `config` is its configuration with or without the base's history.
    pub(super) fn setting(&self, config: ImageConfig, history: Vec<HistoryItem>) -> Setting {
        let (env, cwd, user) = (self.env.pairs().to_vec(), self.cwd.clone(), self.user.clone());
        Setting { env, cwd, user, config, history }
    }
}

/// The directories commands are looked for in when nothing else is said.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the variable PATH as every image gets it; Windows has its own.
pub(super) fn default_path(platform: &Platform) -> Option<&'static str> {
    (platform.os != "windows").then_some(DEFAULT_PATH)
}

/// Returns the configuration of an image without files.
pub(super) fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig::default();
    image.set_platform(platform);
    "/".clone_into(&mut image.config.working_dir);
    image.config.env.extend(default_path(platform).map(|path| format!("PATH={path}")));
    image
}
