package lua

import (
	"strconv"
	"time"

	vm "github.com/yuin/gopher-lua"

	"lorikeet/messages"
)

func (s *session) decodeInput(in messages.DecodeInput) *vm.LTable {
	input := s.vm.CreateTable(0, 16)
	input.RawSetString("bytes", byteTable(s.vm, in.Bytes))
	input.RawSetString("payload", vm.LString(in.Bytes))
	input.RawSetString("fPort", vm.LNumber(in.FPort))
	input.RawSetString("fCnt", vm.LNumber(in.FCnt))
	input.RawSetString("f_cnt", vm.LNumber(in.FCnt))
	if in.RSSI != nil {
		input.RawSetString("rssi", shortNumber(*in.RSSI))
	}
	if in.SNR != nil {
		input.RawSetString("snr", shortNumber(*in.SNR))
	}
	if !in.RecvTime.IsZero() {
		input.RawSetString("recvTime", vm.LNumber(unixSeconds(in.RecvTime)))
		input.RawSetString("recvTimeISO", vm.LString(in.RecvTime.UTC().Format(time.RFC3339Nano)))
	}
	s.setDevice(input, &in.FormatterDevice)
	return input
}

func (s *session) encodeInput(data vm.LValue, in messages.EncodeInput) *vm.LTable {
	input := s.vm.CreateTable(0, 4)
	input.RawSetString("data", data)
	input.RawSetString("fPort", vm.LNumber(in.FPort))
	s.setDevice(input, &in.FormatterDevice)
	return input
}

// setDevice adds variables, and device with the members of an end device in The Things Stack's API.
func (s *session) setDevice(input *vm.LTable, d *messages.FormatterDevice) {
	ids := s.textTable(map[string]string{"device_id": d.Device.DeviceID})
	ids.RawSetString("application_ids", s.textTable(map[string]string{"application_id": d.Device.ApplicationID}))
	if !d.DevEUI.IsZero() {
		ids.RawSetString("dev_eui", vm.LString(d.DevEUI.String()))
	}
	device := s.vm.CreateTable(0, 3)
	device.RawSetString("ids", ids)
	device.RawSetString("attributes", s.textTable(d.Attributes))
	versions := map[string]string{}
	if v := d.VersionIDs; v != nil {
		versions = map[string]string{
			"brand_id": v.BrandID, "model_id": v.ModelID, "hardware_version": v.HardwareVersion, "firmware_version": v.FirmwareVersion, "band_id": v.BandID,
		}
	}
	device.RawSetString("version_ids", s.textTable(versions))
	input.RawSetString("device", device)
	input.RawSetString("variables", s.textTable(d.Attributes))
}

// textTable leaves out empty texts.
func (s *session) textTable(m map[string]string) *vm.LTable {
	t := s.vm.CreateTable(0, len(m))
	for name, value := range m {
		if value != "" {
			t.RawSetString(name, vm.LString(value))
		}
	}
	return t
}

// shortNumber has the shortest decimal of a float32, which is what people expect: -7.2, not -7.199999809265137.
func shortNumber(v float32) vm.LNumber {
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return vm.LNumber(f)
}
