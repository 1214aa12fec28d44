// Times in and out. The local zone of a codec is UTC.
function decodeUplink(input) {
  var b = input.bytes;
  var seconds = b[0] * 0x1000000 + (b[1] << 16) + (b[2] << 8) + b[3];
  var at = new Date(seconds * 1000);
  switch (input.fPort) {
    case 1:
      return { data: { at: at, list: [at], iso: at.toISOString(), json: JSON.stringify(at), ms: at.getTime(), unix: Math.floor(at / 1000) } };
    case 2:
      return { data: { y: at.getFullYear(), mo: at.getMonth() + 1, d: at.getDate(), wd: at.getDay(), h: at.getHours(), mi: at.getUTCMinutes(), s: at.getSeconds(), zone: at.getTimezoneOffset() } };
    case 3:
      return { data: { utc: Date.UTC(2020, 1, 29, 12), parsed: Date.parse('2020-02-29T12:00:00Z'), local: new Date(2020, 1, 29, 12).toISOString(), added: new Date(new Date(2020, 0, 31).setMonth(1)).toISOString() } };
    case 4:
      return { data: { bad: new Date(NaN), never: String(new Date('x')), isNaN: isNaN(new Date('x')) } };
    case 5:
      return { data: { received: input.recvTime, age: input.recvTime - at, later: new Date(input.recvTime.getTime() - 60000).toISOString(), same: input.recvTime instanceof Date } };
    case 6:
      return { data: { utc: at.toUTCString(), text: at.toString().slice(0, 24), date: at.toDateString(), time: at.toISOString().split('T')[1].replace('.000Z', '') } };
    case 7:
      return { data: { us: at.toLocaleString(), date: at.toLocaleDateString('en-US'), time: at.toLocaleTimeString('en-US', { hour12: false }), gb: at.toLocaleString('en-GB', { timeZone: 'UTC' }), de: at.toLocaleString('de-DE'), long: at.toLocaleDateString('en-US', { weekday: 'long', year: 'numeric', month: 'long', day: 'numeric' }) } };
    case 8:
      return { data: { parsed: ['2021-03-04', '2021-03-04T05:06', '2021-03-04T05:06:07.89+02:00', 'Mar 4, 2021 05:06:07', '2021/03/04 05:06', '04 Mar 2021 05:06:07 GMT'].map(function (t) { return new Date(t).toISOString(); }) } };
  }
}
