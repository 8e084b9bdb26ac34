//! What is true of the chat: ids, text rules, rooms, messages, roles, permission resolution; pure, no I/O, no clock.
