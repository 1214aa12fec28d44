package simulator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"lorikeet/messages"
)

// Identity is what a device and the server both know of it.
type Identity struct {
	DeviceID        string
	DevEUI, JoinEUI messages.EUI64
	AppKey          messages.Key
	ABP             *Session
}

// digest spreads a seed: the same arguments give the same bytes in each run.
func digest(seed uint64, what string, index int) [32]byte {
	b := binary.BigEndian.AppendUint64(nil, seed)
	b = append(b, what...)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(index)))
}

// MakeIdentity gives the index-th device of a seed. DevEUIs are locally administered, DevAddrs are of the experimental
// NetID 000000 and differ within one seed.
func MakeIdentity(seed uint64, index int, activation Activation) Identity {
	common := digest(seed, "seed", 0)
	id := Identity{DeviceID: fmt.Sprintf("sim-%x-%06d", common[:3], index), JoinEUI: messages.EUI64{0x02, common[0], common[1], common[2], 0xFF, 0xFE, 0, 0}}
	id.DevEUI = messages.EUI64{0x02, common[0], common[1], common[2]}
	binary.BigEndian.PutUint32(id.DevEUI[4:], uint32(index))
	if activation == OTAA {
		key := digest(seed, "AppKey", index)
		id.AppKey = messages.Key(key[:16])
		return id
	}
	keys := digest(seed, "session", index)
	id.ABP = &Session{NwkSKey: messages.Key(keys[:16]), AppSKey: messages.Key(keys[16:])}
	binary.BigEndian.PutUint32(id.ABP.DevAddr[:], (binary.BigEndian.Uint32(common[8:])+uint32(index))&(1<<25-1))
	return id
}

// gatewayEUI gives the EUI of the index-th radio gateway of a seed.
func gatewayEUI(seed uint64, index int) (eui messages.EUI64) {
	d := digest(seed, "radio gateway", 0)
	eui = messages.EUI64{0x02, d[0], d[1], 0xFF, 0xFE}
	eui[5], eui[6], eui[7] = byte(index>>16), byte(index>>8), byte(index)
	return eui
}
