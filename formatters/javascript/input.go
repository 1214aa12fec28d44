package javascript

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dop251/goja"

	"lorikeet/messages"
)

// input of a function of the script, made before the script can change the built-ins.
type input struct {
	c            *call
	bytes, fPort goja.Value
	recvTime     goja.Value // nil: made when it is read
	at           time.Time
	data         goja.Value // of an encoder
	variables    *goja.Object
	extras       []extra
}

// extra is a member that JavaScript's other servers don't give. It can't be enumerated, so that scripts which walk over their input see what they are used to.
type extra struct {
	name  string
	value goja.Value
}

func (c *call) decodeInput(in messages.DecodeInput) input {
	bytes := make([]any, len(in.Bytes))
	for i, b := range in.Bytes {
		bytes[i] = int64(b)
	}
	out := input{c: c, bytes: c.vm.NewArray(bytes...), fPort: c.vm.ToValue(int64(in.FPort)), at: in.RecvTime}
	if c.names.recvTime {
		out.recvTime = c.date(in.RecvTime)
	}
	if c.names.fCnt {
		n := c.vm.ToValue(int64(in.FCnt))
		out.extras = append(out.extras, extra{"fCnt", n}, extra{"f_cnt", n})
	}
	if c.names.radio {
		out.extras = append(out.extras, extra{"rssi", c.number(in.RSSI)}, extra{"snr", c.number(in.SNR)})
	}
	out.device(&in.FormatterDevice)
	return out
}

func (c *call) encodeInput(in messages.EncodeInput) input {
	out := input{c: c, data: c.parse(in.Data), fPort: c.vm.ToValue(int64(in.FPort))}
	out.device(&in.FormatterDevice)
	return out
}

func (in *input) device(d *messages.FormatterDevice) {
	in.variables = in.c.members(d.Attributes)
	if in.c.names.device {
		in.extras = append(in.extras, extra{"device", in.c.device(d)})
	}
}

// device has the shape of an end device in The Things Stack's API.
func (c *call) device(d *messages.FormatterDevice) goja.Value {
	application, ids, device := c.vm.NewObject(), c.vm.NewObject(), c.vm.NewObject()
	c.set(application, "application_id", c.vm.ToValue(d.Device.ApplicationID))
	c.set(ids, "device_id", c.vm.ToValue(d.Device.DeviceID))
	c.set(ids, "application_ids", application)
	if !d.DevEUI.IsZero() {
		c.set(ids, "dev_eui", c.vm.ToValue(d.DevEUI.String()))
	}
	c.set(device, "ids", ids)
	c.set(device, "attributes", c.members(d.Attributes))
	versions := c.vm.NewObject()
	if v := d.VersionIDs; v != nil {
		for _, member := range []struct{ name, value string }{
			{"brand_id", v.BrandID}, {"model_id", v.ModelID}, {"hardware_version", v.HardwareVersion}, {"firmware_version", v.FirmwareVersion}, {"band_id", v.BandID},
		} {
			if member.value != "" {
				c.set(versions, member.name, c.vm.ToValue(member.value))
			}
		}
	}
	c.set(device, "version_ids", versions)
	return device
}

// members makes an object with the members of m, sorted.
func (c *call) members(m map[string]string) *goja.Object {
	o := c.vm.NewObject()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		c.set(o, name, c.vm.ToValue(m[name]))
	}
	return o
}

func (c *call) number(v *float32) goja.Value {
	if v == nil {
		return goja.Undefined()
	}
	// The shortest decimal of a float32 is what people expect: -7.2, not -7.199999809265137.
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(*v), 'g', -1, 32), 64)
	return c.vm.ToValue(f)
}

// date is dear: it makes the whole Date class.
func (c *call) date(t time.Time) goja.Value {
	date, err := c.vm.New(c.vm.Get("Date"), c.vm.ToValue(t.UnixMilli()))
	c.check(err)
	return date
}

// object is the argument of decodeUplink and the like.
func (in input) object() *goja.Object {
	o := in.c.vm.NewObject()
	if in.data != nil {
		in.c.set(o, "data", in.data)
	} else {
		in.c.set(o, "bytes", in.bytes)
	}
	in.c.set(o, "fPort", in.fPort)
	if in.data == nil {
		in.setRecvTime(o)
	}
	in.c.set(o, "variables", in.variables)
	for _, e := range in.extras {
		in.c.check(o.DefineDataProperty(e.name, e.value, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE))
	}
	return o
}

func (in input) setRecvTime(o *goja.Object) {
	if in.recvTime != nil {
		in.c.set(o, "recvTime", in.recvTime)
		return
	}
	// The source doesn't name it, but may walk over the members.
	get := in.c.vm.ToValue(func(goja.FunctionCall) goja.Value { return in.c.date(in.at) })
	in.c.check(o.DefineAccessorProperty("recvTime", get, nil, goja.FLAG_TRUE, goja.FLAG_TRUE))
}
