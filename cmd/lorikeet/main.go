// Command lorikeet is a LoRaWAN server in one binary.
package main

func main() {}
