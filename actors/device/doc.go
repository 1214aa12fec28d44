// Package device is what a LoRaWAN class A end device means to the server, as pure functions over plain state: no clock, disk, network, log or
// randomness. Time, nonces and ids come in with the commands.
//
// One command at a time is put to Decide, which answers with the next State, the events that applications see and the effects to carry out.
// State and events are committed together before any effect; so a counter is durable before the frame that uses it leaves.
//
//	                 join-request                   first uplink under the new keys
//	(no session) ──────────────────► pending session ───────────────────────────────► session
//	      ▲                                │   the old session serves on until then      │
//	      └────────── reset ───────────────┴─────────────────────────────────────────────┘
//
// Downlinks wait in a queue. An accepted uplink opens two receive windows; then the head of the queue is given a FCntDown, becomes InFlight and
// keeps its place until the radio gateway (unconfirmed) or the device (confirmed) settles it.
package device
