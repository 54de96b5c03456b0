use keyward_sdk::*;
struct Demo;
impl Adapter for Demo {
    fn describe() -> Descriptor {
        Descriptor { name: "demo".into(), ..Default::default() }
    }
    fn start(_: Operation, _: Context, out: &mut Output) -> Result<Self, Failure> {
        out.text(0, "hi");
        out.done();
        Ok(Demo)
    }
    fn frame(&mut self, _: Frame, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }
    fn body(&mut self, _: &ResponseHead, _: &str, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }
    fn end(&mut self, _: &mut Output) -> Result<(), Failure> {
        Ok(())
    }
}
export_adapter!(Demo);
