mod config;
mod identity;
mod terminal;
