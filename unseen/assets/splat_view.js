// Draws 3D Gaussians with WebGL2: as rendering/splatting.py does, "antialiased".
class SplatView {
  static VERTEX = `#version 300 es
    precision highp float;
    precision highp sampler2D;
    in uint splat;
    uniform sampler2D splats;
    uniform mat3 turn;       // rows: right, down, forward
    uniform vec3 eye;
    uniform float focal;     // in pixels
    uniform float side;      // of the image, in pixels
    out vec2 offset;         // in standard deviations
    out vec4 color;
    vec4 part(int i) {
      ivec2 place = ivec2(4 * int(splat % 256u) + i, int(splat / 256u));
      return texelFetch(splats, place, 0);
    }
    void main() {
      vec4 mean = part(0), first = part(1), second = part(2);
      mat3 covariance = mat3(first.x, first.y, first.z, first.y, first.w, second.x,
                             first.z, second.x, second.y);
      vec3 local = turn * (mean.xyz - eye);
      gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // clipped, unless it is seen
      if (local.z < 0.05) return;
      vec2 center = focal * local.xy / local.z;
      vec2 slope = clamp(center, -0.65 * side, 0.65 * side);
      mat3 camera = turn * covariance * transpose(turn);
      vec3 u = vec3(focal, 0.0, -slope.x) / local.z;
      vec3 v = vec3(0.0, focal, -slope.y) / local.z;
      float xx = dot(u, camera * u), xy = dot(u, camera * v), yy = dot(v, camera * v);
      float before = max(xx * yy - xy * xy, 0.0);
      xx += 0.3;
      yy += 0.3;
      float alpha = mean.w * sqrt(before / (xx * yy - xy * xy));
      if (alpha < 1.0 / 255.0) return;
      // The axes of the projected ellipse, as far as a byte shows it.
      float middle = 0.5 * (xx + yy), spread = length(vec2(0.5 * (xx - yy), xy));
      vec2 axis = abs(xy) > 1e-6 ? normalize(vec2(xy, middle + spread - xx))
                                 : (xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0));
      vec2 deviations = sqrt(vec2(middle + spread, max(middle - spread, 1e-6)));
      vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
      offset = corner * sqrt(2.0 * log(255.0 * alpha));
      vec2 pixel = center + axis * deviations.x * offset.x
                 + vec2(-axis.y, axis.x) * deviations.y * offset.y;
      gl_Position = vec4(2.0 * pixel.x / side, -2.0 * pixel.y / side, 0.0, 1.0);
      color = vec4(second.z, second.w, part(3).x, alpha);
    }`;
  static FRAGMENT = `#version 300 es
    precision highp float;
    in vec2 offset;
    in vec4 color;
    out vec4 result;
    void main() {
      float alpha = color.a * exp(-0.5 * dot(offset, offset));
      if (alpha < 1.0 / 255.0) discard;
      result = vec4(color.rgb * alpha, alpha);
    }`;

  // null where the browser has no WebGL2. One context draws all scenes in turn.
  static create() {
    const canvas = document.createElement("canvas");
    const options = { alpha: false, antialias: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl2", options);
    return gl === null ? null : new SplatView(canvas, gl);
  }

  constructor(canvas, gl) {
    this.canvas = canvas;
    this.gl = gl;
    this.program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, SplatView.VERTEX],
                                  [gl.FRAGMENT_SHADER, SplatView.FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) {
      throw new Error(gl.getProgramInfoLog(this.program));
    }
    gl.useProgram(this.program);
    this.order = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.order);
    const splat = gl.getAttribLocation(this.program, "splat");
    gl.enableVertexAttribArray(splat);
    gl.vertexAttribIPointer(splat, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(splat, 1);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // A scene from .splat records (32 bytes each) in base64.
  read(base64) {
    const bytes = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
    const floats = new Float32Array(bytes.buffer);
    const count = bytes.length / 32;
    const means = new Float32Array(3 * count);
    // Rows of 256 Gaussians, because phones limit a texture's sides to 4096.
    const rows = Math.ceil(count / 256);
    const texels = new Float32Array(16 * 256 * rows);
    for (let i = 0; i < count; i++) {
      const mean = floats.subarray(8 * i, 8 * i + 3);
      const scale = floats.subarray(8 * i + 3, 8 * i + 6);
      const color = bytes.subarray(32 * i + 24, 32 * i + 28);
      const turn = Array.from(bytes.subarray(32 * i + 28, 32 * i + 32), x => x - 128);
      means.set(mean, 3 * i);
      const c = SplatView.covariance(scale, turn);
      texels.set([...mean, color[3] / 255, ...c, color[0] / 255, color[1] / 255,
                  color[2] / 255], 16 * i);
    }
    const gl = this.gl, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 4 * 256, rows, 0, gl.RGBA, gl.FLOAT,
                  texels);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    const order = Uint32Array.from({ length: count }, (_, i) => i);
    return { count, means, texture, order, depths: new Float32Array(count) };
  }

  // (xx, xy, xz, yy, yz, zz) from deviations along axes and a quaternion (w, x, y, z).
  static covariance(scale, quaternion) {
    const length = Math.hypot(...quaternion) || 1;
    const [w, x, y, z] = quaternion.map(part => part / length);
    const axes = [
      [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
      [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
      [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ];
    const entry = (i, j) =>
      [0, 1, 2].reduce((sum, k) => sum + axes[i][k] * axes[j][k] * scale[k] ** 2, 0);
    return [entry(0, 0), entry(0, 1), entry(0, 2), entry(1, 1), entry(1, 2), entry(2, 2)];
  }

  // Angles in radians; the camera looks at the origin, and z is up. `focal` is in
  // shares of the image's side, `background` a colour in [0, 1].
  draw(scene, target, { azimuth, elevation, distance, focal, background }) {
    const gl = this.gl, side = target.width;
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    const [ca, sa] = [Math.cos(azimuth), Math.sin(azimuth)];
    const [ce, se] = [Math.cos(elevation), Math.sin(elevation)];
    const forward = [-ca * ce, -sa * ce, -se];
    const eye = forward.map(x => -distance * x);
    const right = [-sa, ca, 0], down = [ca * se, sa * se, -ce];
    this.sort(scene, forward);
    gl.viewport(0, 0, side, side);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.bindTexture(gl.TEXTURE_2D, scene.texture);
    const place = name => gl.getUniformLocation(this.program, name);
    gl.uniformMatrix3fv(place("turn"), true, [...right, ...down, ...forward]);
    gl.uniform3fv(place("eye"), eye);
    gl.uniform1f(place("focal"), focal * side);
    gl.uniform1f(place("side"), side);
    gl.bufferData(gl.ARRAY_BUFFER, scene.order, gl.DYNAMIC_DRAW);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, scene.count);
    target.getContext("2d").drawImage(this.canvas, 0, 0);
  }

  // From the furthest to the nearest.
  sort({ count, means, order, depths }, [x, y, z]) {
    for (let i = 0; i < count; i++) {
      depths[i] = x * means[3 * i] + y * means[3 * i + 1] + z * means[3 * i + 2];
    }
    order.sort((a, b) => depths[b] - depths[a]);
  }
}
