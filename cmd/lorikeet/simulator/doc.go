// Package simulator plays radio gateways and LoRaWAN devices against any server that speaks the Semtech UDP protocol, and
// measures what the server makes of them.
//
// It has three layers. MAC is the pure core of one class A (or C) device of LoRaWAN 1.0.x: no clock, no socket. Air puts
// devices and radio gateways together over real UDP; a test drives a Device by hand with Join, Send and WaitDownlink.
// Run is the load generator: it provisions devices over REST, paces uplinks in an open loop, receives the events over MQTT
// and compares them with what it sent.
//
// The simulator is the judge of the server, so it shares no LoRaWAN code with it: downlinks are read and checked with
// github.com/brocaar/lorawan, and every downlink that reaches a radio gateway is entered in a ledger of its session, so that a
// FCntDown that is used twice is found even if the device never heard one of the two frames.
package simulator
