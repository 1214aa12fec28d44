package cluster

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"lorikeet/messages"
	"lorikeet/messages/frame"
)

// uplink is a frame without payload, made with the NwkSKey.
func uplink(key messages.Key, addr messages.DevAddr, fCnt uint32) (frame.Data, []byte) {
	phy := []byte{0x40, addr[3], addr[2], addr[1], addr[0], 0, 0, 0}
	binary.LittleEndian.PutUint16(phy[6:], uint16(fCnt))
	mic := frame.NewCipher(key).MIC(false, addr, fCnt, phy)
	phy = append(phy, mic[:]...)
	d, err := frame.ParseData(phy)
	if err != nil {
		panic(err)
	}
	return d, phy
}

func device(n int) messages.DeviceID {
	return messages.DeviceID{ApplicationID: "app", DeviceID: fmt.Sprintf("dev-%d", n)}
}

func (d *Directory) wants(t *testing.T, key messages.Key, addr messages.DevAddr, fCnt uint32, id messages.DeviceID, want Match) {
	t.Helper()
	data, phy := uplink(key, addr, fCnt)
	if got, m := d.Find(data, phy); m != want || got != id {
		t.Errorf("FCnt %#x: got %v %v, want %v %v", fCnt, got, m, id, want)
	}
}

func TestDirectoryFindsByAddressAndMIC(t *testing.T) {
	d := NewDirectory()
	addr, none := messages.DevAddr{1, 2, 3, 4}, messages.DeviceID{}
	for i := range 5 { // five devices share one address
		d.Set(device(i), messages.SessionEntry{DevAddr: addr, NwkSKey: messages.Key{byte(i)}, LastFCntUp: 0x1fffe, HasFCntUp: true})
	}
	for i := range 5 {
		key := messages.Key{byte(i)}
		d.wants(t, key, addr, 0x1ffff, device(i), Found)
		d.wants(t, key, addr, 0x1fffe, device(i), Found) // a repetition, for the device to judge
		d.wants(t, key, addr, 0x20000, device(i), Found)
		d.wants(t, key, addr, 0x10001, none, Replayed)
	}
	d.wants(t, messages.Key{9}, addr, 0x1ffff, none, BadMIC)
	d.wants(t, messages.Key{1}, messages.DevAddr{9}, 0x1ffff, none, Unknown)
	if d.Len() != 5 || !d.Has(device(0)) || d.Has(device(9)) {
		t.Errorf("Len %d", d.Len())
	}
}

// Some vendors give all their ABP devices one address.
func TestManyDevicesShareAnAddress(t *testing.T) {
	d := NewDirectory()
	addr, none := messages.DevAddr{1, 2, 3, 4}, messages.DeviceID{}
	key := func(i int) messages.Key { return messages.Key{byte(i), byte(i >> 8)} }
	for i := range 1500 {
		d.Set(device(i), messages.SessionEntry{DevAddr: addr, NwkSKey: key(i), LastFCntUp: uint32(100 * i), HasFCntUp: true})
		if i == maxCandidates-1 {
			d.wants(t, key(maxCandidates), addr, 0, none, BadMIC)
		}
	}
	for i := 0; i < 1500; i += 100 {
		d.wants(t, key(i), addr, uint32(100*i)+1, device(i), Found)
	}
	d.wants(t, key(2), addr, 20_200, device(2), Found) // not soon, but among those that are looked at
	d.wants(t, key(2000), addr, 0, none, Crowded)
}

func TestDirectoryFollowsSessions(t *testing.T) {
	d := NewDirectory()
	old := messages.SessionEntry{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{1}}
	pending := messages.SessionEntry{DevAddr: messages.DevAddr{2}, NwkSKey: messages.Key{2}}
	sameAddr := messages.SessionEntry{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{3}}
	none := messages.DeviceID{}
	d.Set(device(1), old)
	d.Set(device(1), old, pending)
	d.wants(t, old.NwkSKey, old.DevAddr, 0, device(1), Found)
	d.wants(t, pending.NwkSKey, pending.DevAddr, 0, device(1), Found)
	d.Set(device(1), pending)
	d.wants(t, old.NwkSKey, old.DevAddr, 0, none, Unknown)
	d.wants(t, pending.NwkSKey, pending.DevAddr, 0, device(1), Found)
	d.Set(device(1), old, sameAddr) // both sessions under one address
	d.wants(t, old.NwkSKey, old.DevAddr, 0, device(1), Found)
	d.wants(t, sameAddr.NwkSKey, sameAddr.DevAddr, 0, device(1), Found)
	d.Set(device(1), sameAddr)
	d.wants(t, old.NwkSKey, old.DevAddr, 0, none, BadMIC)
	d.wants(t, sameAddr.NwkSKey, sameAddr.DevAddr, 0, device(1), Found)
	d.Set(device(1))
	d.wants(t, sameAddr.NwkSKey, sameAddr.DevAddr, 0, none, Unknown)
	if d.Len() != 0 {
		t.Errorf("Len %d", d.Len())
	}
}

func TestDirectoryTakes16BitCountersAndResets(t *testing.T) {
	d := NewDirectory()
	a := messages.SessionEntry{DevAddr: messages.DevAddr{1}, NwkSKey: messages.Key{1}, LastFCntUp: 0xfff0, HasFCntUp: true}
	d.Set(device(1), a)
	d.wants(t, a.NwkSKey, a.DevAddr, 3, messages.DeviceID{}, Replayed)
	a.FCnt16 = true
	d.Set(device(1), a)
	d.wants(t, a.NwkSKey, a.DevAddr, 3, device(1), Found)
	a.FCnt16, a.ResetsFCnt = false, true
	d.Set(device(1), a)
	d.wants(t, a.NwkSKey, a.DevAddr, 3, device(1), Found)
}

func TestDirectoryKnowsTheAddressesOfADevice(t *testing.T) {
	d := NewDirectory()
	first, second := messages.DevAddr{0, 0, 0, 1}, messages.DevAddr{0, 0, 0, 2}
	d.Set(device(1), messages.SessionEntry{DevAddr: first}, messages.SessionEntry{DevAddr: second})
	if got := d.DevAddrs(device(1)); len(got) != 2 || got[0] != first || got[1] != second {
		t.Errorf("got %v", got)
	}
	d.Set(device(1))
	if got := d.DevAddrs(device(1)); len(got) != 0 {
		t.Errorf("got %v of a device without sessions", got)
	}
}

func TestDirectoryIsSafeForConcurrentUse(t *testing.T) {
	d := NewDirectory()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				addr := messages.DevAddr{0, 0, 0, byte(n % 4)}
				d.Set(device(i), messages.SessionEntry{DevAddr: addr, NwkSKey: messages.Key{byte(i)}})
				data, phy := uplink(messages.Key{byte(i)}, addr, 0)
				if got, m := d.Find(data, phy); m != Found || got != device(i) {
					t.Errorf("got %v %v", got, m)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkFind(b *testing.B) {
	d := NewDirectory()
	for i := range 100000 {
		d.Set(device(i), messages.SessionEntry{DevAddr: messages.DevAddr{0, byte(i >> 16), byte(i >> 8), byte(i)}, NwkSKey: messages.Key{byte(i)}})
	}
	data, phy := uplink(messages.Key{7}, messages.DevAddr{0, 0, 0, 7}, 0)
	for b.Loop() {
		if _, m := d.Find(data, phy); m != Found {
			b.Fatal(m)
		}
	}
}

// BenchmarkDirectoryMemory reports what the directory of a node holds for each device.
func BenchmarkDirectoryMemory(b *testing.B) {
	const devices = 500_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		d := NewDirectory()
		for i := range devices {
			id := messages.DeviceID{ApplicationID: "water-meters", DeviceID: fmt.Sprintf("eui-70b3d57ed%07x", i)}
			d.Set(id, messages.SessionEntry{DevAddr: messages.DevAddr{1, byte(i >> 16), byte(i >> 8), byte(i)}, NwkSKey: messages.Key{byte(i)}})
		}
		b.ReportMetric(float64(heap()-before)/devices, "B/device")
		runtime.KeepAlive(d)
	}
	b.ReportMetric(0, "ns/op")
}
