mod config;
mod farewell;
mod identity;
mod registry;
mod terminal;
