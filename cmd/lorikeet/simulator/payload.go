package simulator

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// payloadFunc fills b with the payload of the n-th uplink of a run. The payload is as long as the size parsePayload gave.
type payloadFunc func(b []byte, n uint64)

// parsePayload reads Config.Payload and gives the generator and its size in bytes.
func parsePayload(spec string) (payloadFunc, int, error) {
	kind, arg, _ := strings.Cut(spec, ":")
	switch kind {
	case "hex":
		fixed, err := hex.DecodeString(arg)
		if err != nil || len(fixed) == 0 {
			return nil, 0, fmt.Errorf("payload %q: use hex: and an even number of hex digits", spec)
		}
		return func(b []byte, _ uint64) { copy(b, fixed) }, len(fixed), nil
	case "counter":
		return func(b []byte, n uint64) { binary.BigEndian.PutUint32(b, uint32(n)) }, 4, nil
	case "cayennelpp":
		return func(b []byte, n uint64) {
			copy(b, []byte{1, 0x67})                             // channel 1, temperature in 0.1 °C
			binary.BigEndian.PutUint16(b[2:], 180+uint16(n%120)) // 18.0 to 29.9 °C
		}, 4, nil
	case "random":
		size, err := strconv.Atoi(arg)
		if err != nil || size < 1 || size > 242 {
			return nil, 0, fmt.Errorf("payload %q: use random: and 1 to 242 bytes", spec)
		}
		return func(b []byte, n uint64) {
			r := rand.NewPCG(n, 0)
			for i := range b {
				b[i] = byte(r.Uint64())
			}
		}, size, nil
	}
	return nil, 0, fmt.Errorf("payload %q: use hex:0102, counter, cayennelpp or random:16", spec)
}
