package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"lorikeet/messages"
)

// uplinkCrypto secures the uplinks of one session. It exists beside brocaar/lorawan because a load generator must not eat the
// CPU that it measures: the key schedules are kept (1 KiB a session) and nothing is allocated. Not safe for concurrent use.
type uplinkCrypto struct {
	nwk, app cipher.Block
	k1, k2   [16]byte // CMAC sub-keys of the NwkSKey (RFC 4493)
	x, a     [16]byte // scratch: arguments of an interface would escape else
}

func newUplinkCrypto(nwkSKey, appSKey messages.Key) *uplinkCrypto {
	c := &uplinkCrypto{nwk: newAES(nwkSKey), app: newAES(appSKey)}
	c.nwk.Encrypt(c.k1[:], c.x[:])
	c.k1 = doubled(c.k1)
	c.k2 = doubled(c.k1)
	return c
}

func newAES(k messages.Key) cipher.Block {
	b, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // a 16 byte key is always right
	}
	return b
}

// doubled multiplies by x in GF(2^128).
func doubled(in [16]byte) (out [16]byte) {
	hi, lo := binary.BigEndian.Uint64(in[:8]), binary.BigEndian.Uint64(in[8:])
	carry := -(hi >> 63) & 0x87
	binary.BigEndian.PutUint64(out[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(out[8:], lo<<1^carry)
	return out
}

// crypt enciphers an uplink's FRMPayload in place (LoRaWAN 1.0.3 §4.3.3). FPort 0 takes the NwkSKey.
func (c *uplinkCrypto) crypt(fPort uint8, addr messages.DevAddr, fCnt uint32, data []byte) {
	block := c.app
	if fPort == 0 {
		block = c.nwk
	}
	c.a = [16]byte{0: 1}
	c.frameFields(addr, fCnt)
	for i := 0; len(data) > 0; i++ {
		c.a[15] = byte(i + 1)
		block.Encrypt(c.x[:], c.a[:])
		n := min(16, len(data))
		for j := range n {
			data[j] ^= c.x[j]
		}
		data = data[n:]
	}
}

func (c *uplinkCrypto) frameFields(addr messages.DevAddr, fCnt uint32) {
	c.a[6], c.a[7], c.a[8], c.a[9] = addr[3], addr[2], addr[1], addr[0]
	binary.LittleEndian.PutUint32(c.a[10:], fCnt)
}

// appendMIC appends the MIC of an uplink (LoRaWAN 1.0.3 §4.4): the first 4 bytes of CMAC(NwkSKey, B0 | msg).
func (c *uplinkCrypto) appendMIC(addr messages.DevAddr, fCnt uint32, msg []byte) []byte {
	c.a = [16]byte{0: 0x49, 15: byte(len(msg))}
	c.frameFields(addr, fCnt)
	c.nwk.Encrypt(c.x[:], c.a[:])
	rest := msg
	for ; len(rest) > 16; rest = rest[16:] {
		for i := range 16 {
			c.x[i] ^= rest[i]
		}
		c.nwk.Encrypt(c.x[:], c.x[:])
	}
	last := c.k1
	if len(rest) < 16 {
		last = c.k2
		last[len(rest)] ^= 0x80
	}
	for i, b := range rest {
		last[i] ^= b
	}
	for i := range 16 {
		c.x[i] ^= last[i]
	}
	c.nwk.Encrypt(c.x[:], c.x[:])
	return append(msg, c.x[:4]...)
}

// deriveKeys gives NwkSKey and AppSKey of a LoRaWAN 1.0.x join (1.0.3 §6.2.5).
func deriveKeys(appKey messages.Key, joinNonce uint32, netID [3]byte, devNonce uint16) (nwkSKey, appSKey messages.Key) {
	in := [16]byte{0: 1, 1: byte(joinNonce), 2: byte(joinNonce >> 8), 3: byte(joinNonce >> 16),
		4: netID[2], 5: netID[1], 6: netID[0], 7: byte(devNonce), 8: byte(devNonce >> 8)}
	block := newAES(appKey)
	block.Encrypt(nwkSKey[:], in[:])
	in[0] = 2
	block.Encrypt(appSKey[:], in[:])
	return nwkSKey, appSKey
}
