mod config;
mod identity;
mod registry;
mod terminal;
