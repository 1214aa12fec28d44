package frame

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"lorikeet/messages"
)

// Cipher is an AES-128 key made ready for frames. It is safe for use by several goroutines.
type Cipher struct {
	block  cipher.Block
	k1, k2 [16]byte // CMAC subkeys (RFC 4493 §2.3)
}

// NewCipher expands key.
func NewCipher(key messages.Key) *Cipher {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("frame: AES takes 16-byte keys: " + err.Error())
	}
	c := &Cipher{block: block}
	var l [16]byte
	block.Encrypt(l[:], l[:])
	double(&c.k1, &l)
	double(&c.k2, &c.k1)
	return c
}

func double(dst, src *[16]byte) {
	hi, lo := binary.BigEndian.Uint64(src[:8]), binary.BigEndian.Uint64(src[8:])
	carry := hi >> 63
	binary.BigEndian.PutUint64(dst[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(dst[8:], lo<<1^carry*0x87)
}

// cmac is AES-CMAC (RFC 4493) over head and msg, cut to 4 bytes. head is empty or one block.
func (c *Cipher) cmac(head, msg []byte) [4]byte {
	var x [16]byte
	if len(head) == 16 {
		subtle.XORBytes(x[:], x[:], head)
		if len(msg) == 0 {
			subtle.XORBytes(x[:], x[:], c.k1[:])
		}
		c.block.Encrypt(x[:], x[:])
	}
	for len(msg) > 16 {
		subtle.XORBytes(x[:], x[:], msg[:16])
		c.block.Encrypt(x[:], x[:])
		msg = msg[16:]
	}
	if len(msg) == 16 {
		subtle.XORBytes(x[:], x[:], msg)
		subtle.XORBytes(x[:], x[:], c.k1[:])
		c.block.Encrypt(x[:], x[:])
	} else if len(msg) > 0 || len(head) == 0 {
		subtle.XORBytes(x[:], x[:], msg)
		x[len(msg)] ^= 0x80
		subtle.XORBytes(x[:], x[:], c.k2[:])
		c.block.Encrypt(x[:], x[:])
	}
	return [4]byte(x[:4])
}

func block(first byte, down bool, addr messages.DevAddr, fCnt uint32, last byte) [16]byte {
	b := [16]byte{0: first, 6: addr[3], 7: addr[2], 8: addr[1], 9: addr[0], 15: last}
	if down {
		b[5] = 1
	}
	binary.LittleEndian.PutUint32(b[10:], fCnt)
	return b
}

// MIC of a data frame without its last four bytes (LoRaWAN 1.0.4 §4.4); c holds the NwkSKey.
func (c *Cipher) MIC(down bool, addr messages.DevAddr, fCnt uint32, msg []byte) [4]byte {
	b0 := block(0x49, down, addr, fCnt, byte(len(msg)))
	return c.cmac(b0[:], msg)
}

// CheckUp says whether phy is an uplink of addr with this 32-bit counter, made with the NwkSKey that c holds.
func (c *Cipher) CheckUp(addr messages.DevAddr, fCnt uint32, phy []byte) bool {
	n := len(phy) - 4
	mic := c.MIC(false, addr, fCnt, phy[:n])
	return subtle.ConstantTimeCompare(mic[:], phy[n:]) == 1
}

// CheckJoin says whether phy is a join-request made with the AppKey that c holds (LoRaWAN 1.0.4 §6.2.5).
func (c *Cipher) CheckJoin(phy []byte) bool {
	n := len(phy) - 4
	mic := c.cmac(nil, phy[:n])
	return subtle.ConstantTimeCompare(mic[:], phy[n:]) == 1
}

// Crypt encrypts or decrypts a FRMPayload (LoRaWAN 1.0.4 §4.3.3) into a new slice; c holds the AppSKey, or the NwkSKey for FPort 0.
func (c *Cipher) Crypt(down bool, addr messages.DevAddr, fCnt uint32, payload []byte) []byte {
	out := make([]byte, len(payload))
	a, s := block(0x01, down, addr, fCnt, 0), [16]byte{}
	for i := 0; i < len(payload); i += 16 {
		a[15] = byte(i/16 + 1)
		c.block.Encrypt(s[:], a[:])
		subtle.XORBytes(out[i:], payload[i:], s[:])
	}
	return out
}

// Downlink is a data downlink to be built.
type Downlink struct {
	Confirmed, ACK, FPending, ADR bool
	DevAddr                       messages.DevAddr
	FCnt                          uint32
	FOpts                         []byte // at most 15 bytes
	HasFPort                      bool
	FPort                         uint8
	FRMPayload                    []byte // in clear, unless Encrypted
	Encrypted                     bool   // FRMPayload was encrypted by the application
}

// Build gives the PHYPayload of d.
func (d Downlink) Build(nwkSKey, appSKey *Cipher) []byte {
	phy := make([]byte, 8, 8+len(d.FOpts)+1+len(d.FRMPayload)+4)
	phy[0] = byte(UnconfirmedDataDown) << 5
	if d.Confirmed {
		phy[0] = byte(ConfirmedDataDown) << 5
	}
	phy[1], phy[2], phy[3], phy[4] = d.DevAddr[3], d.DevAddr[2], d.DevAddr[1], d.DevAddr[0]
	phy[5] = byte(len(d.FOpts) & 0x0f)
	for bit, set := range map[byte]bool{0x80: d.ADR, 0x20: d.ACK, 0x10: d.FPending} {
		if set {
			phy[5] |= bit
		}
	}
	binary.LittleEndian.PutUint16(phy[6:], uint16(d.FCnt))
	phy = append(phy, d.FOpts...)
	if d.HasFPort {
		key, payload := appSKey, d.FRMPayload
		if d.FPort == 0 {
			key = nwkSKey
		}
		if !d.Encrypted {
			payload = key.Crypt(true, d.DevAddr, d.FCnt, payload)
		}
		phy = append(append(phy, d.FPort), payload...)
	}
	mic := nwkSKey.MIC(true, d.DevAddr, d.FCnt, phy)
	return append(phy, mic[:]...)
}

// SessionKeys derives NwkSKey and AppSKey from the AppKey (LoRaWAN 1.0.4 §6.2.6). netID is big-endian.
func SessionKeys(appKey messages.Key, joinNonce uint32, netID [3]byte, devNonce uint16) (nwkSKey, appSKey messages.Key) {
	c := NewCipher(appKey)
	in := [16]byte{1, byte(joinNonce), byte(joinNonce >> 8), byte(joinNonce >> 16), netID[2], netID[1], netID[0], byte(devNonce), byte(devNonce >> 8)}
	c.block.Encrypt(nwkSKey[:], in[:])
	in[0] = 2
	c.block.Encrypt(appSKey[:], in[:])
	return nwkSKey, appSKey
}
